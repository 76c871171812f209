import { describe, expect, it } from 'vitest';
import { renderBlock } from '@/markdown/render';
import { typeset } from '@/markdown/typeset';

function page(source: string): HTMLElement {
  const root = document.createElement('div');
  root.innerHTML = renderBlock(source, {}, { copy: 'Copy', image: 'image' });
  return root;
}

/** [TeX, whether it stands by itself] of each formula. */
function formulas(source: string): [string, boolean][] {
  return [...page(source).querySelectorAll('.math')].map((element) => [
    element.textContent ?? '',
    element.classList.contains('display'),
  ]);
}

describe('formulas', () => {
  it.each<[string, [string, boolean][]]>([
    ['so $x^2$ is', [['x^2', false]]],
    ['\\(a+b\\) and \\[c\\]', [['a+b', false], ['c', true]]],
    ['$$a_1 * b_1$$', [['a_1 * b_1', true]]],
    ['$$\na\n\nb\n$$', [['a\n\nb', true]]],
    ['\\[\nx = 1\n\\]', [['x = 1', true]]],
    ['text $$y$$ more', [['y', true]]],
    ['- item $z$\n- \\(w\\)', [['z', false], ['w', false]]],
    ['价格是$p$元', [['p', false]]],
  ])('%s', (source, expected) => {
    expect(formulas(source)).toEqual(expected);
  });

  it.each([
    'It costs $5 and $6.',
    'a $ b $ c',
    '`$x$` in code',
    '```\n$x$\n```',
    '\\$x\\$',
    'an open $x',
    '$$ $$',
  ])('are not in: %s', (source) => {
    expect(formulas(source)).toEqual([]);
  });

  it('are shown while they are still being written', () => {
    expect(formulas('$$\n\\frac{1}')).toEqual([['\\frac{1}', true]]);
  });

  it('are set as nodes, once; what is no TeX stays', async () => {
    const root = page('$\\frac12$ and $\\nosuch{$ and \\(\\href{javascript:alert(1)}{x}\\)');
    await typeset(root);
    const [good, bad, evil] = root.querySelectorAll('.math');
    expect(good?.querySelector('.katex-mathml')).not.toBeNull();
    expect(bad?.textContent).toBe('\\nosuch{');
    expect(evil?.querySelector('a')).toBeNull();
    const before = root.innerHTML;
    await typeset(root);
    expect(root.innerHTML).toBe(before);
  });
});
