import { describe, expect, it } from 'vitest';
import { Blocks } from '@/markdown/blocks';
import { renderBlock } from '@/markdown/render';

const words = { copy: 'Copy', image: 'image' };

const DOCUMENT = `# Title

A paragraph
of two lines with $x$ and **bold**.

- one

- two
  continued

  \`\`\`js
  const a = 1;

  const b = 2;
  \`\`\`

1. first
2. second

\`\`\`python
def f():

    return 1
\`\`\`

$$
a

b
$$

> quoted

| a | b |
|---|---|
| 1 | 2 |

你好，**世界。**再见

Setext
---

the end`;

function html(blocks: Blocks): string {
  return blocks.sources.map((source) => renderBlock(source, blocks.references, words)).join('');
}

describe('blocks', () => {
  it('are the text, cut', () => {
    const blocks = new Blocks();
    expect(blocks.update(DOCUMENT).join('')).toBe(DOCUMENT);
    expect(blocks.sources.map((source) => source.split('\n')[0])).toEqual([
      '# Title',
      'A paragraph',
      '- one',
      '1. first',
      '```python',
      '$$',
      '> quoted',
      '| a | b |',
      '你好，**世界。**再见',
      'Setext',
      'the end',
    ]);
  });

  it.each([1, 2, 3, 7, 50])('are the same however they come: %i characters at once', (step) => {
    const whole = new Blocks();
    whole.update(DOCUMENT);
    const growing = new Blocks();
    for (let end = step; end < DOCUMENT.length + step; end += step) {
      growing.update(DOCUMENT.slice(0, end));
    }
    expect(html(growing)).toBe(html(whole));
  });

  it('render as the whole text does', () => {
    const blocks = new Blocks();
    blocks.update(DOCUMENT);
    expect(html(blocks)).toBe(renderBlock(DOCUMENT, {}, words));
  });

  it('do not change once a later one has a whole line', () => {
    const blocks = new Blocks();
    let finished: string[] = [];
    for (let end = 1; end <= DOCUMENT.length; end++) {
      const now = [...blocks.update(DOCUMENT.slice(0, end))];
      expect(now.slice(0, finished.length)).toEqual(finished);
      const last = now.at(-1) ?? '';
      finished = now.slice(0, last.includes('\n') ? -1 : -2);
    }
  });

  it('use definitions that come later', () => {
    const blocks = new Blocks();
    blocks.update('See [the docs][d] here.\n\nMore.\n\n[d]: https://example.com/docs\n');
    expect(html(blocks)).toContain('href="https://example.com/docs"');
  });

  it('begin anew with another text', () => {
    const blocks = new Blocks();
    blocks.update('# One\n\ntwo\n\nthree\n');
    expect(blocks.update('Other')).toEqual(['Other']);
    expect(blocks.update('')).toEqual([]);
  });

  it('keep a long code block in one piece', () => {
    const code = '```\n' + 'x = 1\n\n'.repeat(500);
    const blocks = new Blocks();
    for (let end = 0; end <= code.length; end += 100) blocks.update(code.slice(0, end));
    expect(blocks.sources).toHaveLength(1);
  });
});
