import { describe, expect, it } from 'vitest';
import { highlight } from '@/markdown/languages';
import { renderBlock } from '@/markdown/render';

const words = { copy: 'Copy', image: 'image' };
const render = (source: string) => renderBlock(source, {}, words);

/** The elements that a source becomes. */
function page(source: string): HTMLElement {
  const root = document.createElement('div');
  root.innerHTML = render(source);
  return root;
}

const ATTACKS = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<svg onload=alert(1)><circle/></svg>',
  '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '<a href="javascript:alert(1)">x</a>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt:alert(1))',
  '[x](java&#115;cript:alert(1))',
  '[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)',
  '[x](vbscript:msgbox(1))',
  '<javascript:alert(1)>',
  '![x](x"onerror="alert(1))',
  '![x](javascript:alert(1))',
  '[x](https://a.example "onmouseover=alert(1)")',
  '[x](https://a.example/"onmouseover="alert(1))',
  '```"><img src=x onerror=alert(1)>\ncode\n```',
  '```html\n<script>alert(1)</script>\n```',
  '`<script>alert(1)</script>`',
  '$<img src=x onerror=alert(1)>$',
  '$$\n\\href{javascript:alert(1)}{x}\n$$',
  '| <img src=x onerror=alert(1)> |\n|---|\n| x |',
  '<style>body{display:none}</style>',
  '<form action="https://evil.example"><input name=a></form>',
  '<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>',
  '[x]: javascript:alert(1)\n\n[x]',
  '&lt;script&gt;alert(1)&lt;/script&gt;',
];

describe('what is rendered', () => {
  it.each(ATTACKS)('runs nothing: %s', (attack) => {
    for (const source of [attack, `> ${attack}`, `- ${attack}`]) {
      const root = page(source);
      expect(root.querySelector('script, img, svg, iframe, style, form, input, math, object')).toBeNull();
      for (const element of root.querySelectorAll('*')) {
        for (const { name, value } of element.attributes) {
          expect(name).not.toMatch(/^on|^style$|^src/);
          if (name === 'href') expect(value).toMatch(/^(https?:|mailto:|#|\/|x)/);
        }
      }
    }
  });

  it('sets columns as the table says', () => {
    const root = page('| a | b | c |\n|---|:-:|--:|\n| 1 | 2 | 3 |');
    expect([...root.querySelectorAll('td')].map((cell) => cell.className)).toEqual(['', 'center', 'right']);
  });

  it('makes boxes of tasks, and of nothing else', () => {
    const root = page('- [ ] wash\n- [x] shear\n- [y] no\n\n[ ] no');
    expect([...root.querySelectorAll('li')].map((item) => item.textContent?.trim())).toEqual(['☐ wash', '☑ shear', '[y] no']);
    expect(root.querySelector('p')?.textContent).toBe('[ ] no');
  });

  it('shows HTML as the text it is', () => {
    expect(page('<b>bold</b> & <script>').textContent?.trim()).toBe('<b>bold</b> & <script>');
  });

  it('opens links elsewhere, without telling from where', () => {
    const link = page('https://example.com/a').querySelector('a');
    expect(link?.getAttribute('href')).toBe('https://example.com/a');
    expect(link?.getAttribute('target')).toBe('_blank');
    expect(link?.getAttribute('rel')).toBe('noopener noreferrer nofollow');
  });

  it('takes file names for words', () => {
    expect(page('Run main.py or setup.sh').querySelector('a')).toBeNull();
  });

  it('fetches no pictures: they are links', () => {
    const root = page('![a cat](https://example.com/cat.png) ![](https://example.com/b.png)');
    const links = [...root.querySelectorAll('a')];
    expect(links.map((link) => [link.getAttribute('href'), link.textContent])).toEqual([
      ['https://example.com/cat.png', 'a cat'],
      ['https://example.com/b.png', 'image'],
    ]);
  });

  it('gives code a head with its language and a button', () => {
    const root = page('```python\nprint("<b>")\n```');
    expect(root.querySelector('.code-head span')?.textContent).toBe('python');
    expect(root.querySelector('button.copy')?.textContent).toBe('Copy');
    expect(root.querySelector('pre')?.textContent).toBe('print("<b>")');
  });

  it('knows emphasis beside Chinese and Japanese', () => {
    expect(page('**你好。**世界').querySelector('strong')?.textContent).toBe('你好。');
    expect(page('这是**“重点”**内容').querySelector('strong')?.textContent).toBe('“重点”');
    expect(page('これは**「強調」**です').querySelector('strong')?.textContent).toBe('「強調」');
    expect(page('𠮷**a。**').querySelector('strong')?.textContent).toBe('a。');
  });

  it('leaves stars between words alone', () => {
    expect(page('2 * 3 * 4').querySelector('em')).toBeNull();
    expect(page('a*b*c').querySelector('em')?.textContent).toBe('b');
  });

  it('decodes references', () => {
    expect(page('&amp; &copy; &#8364; &nosuch; &lt;b&gt;').textContent?.trim()).toBe(
      '& © € &nosuch; <b>',
    );
  });

  it('keeps line ends, and tables can be scrolled', () => {
    expect(page('a\nb').querySelectorAll('br')).toHaveLength(1);
    expect(page('|a|\n|-|\n|b|').querySelector('.table > table td')?.textContent).toBe('b');
  });
});

describe('highlighting', () => {
  it('marks what it knows and escapes all', () => {
    expect(highlight('if x: print("<b>")', 'python')).toContain('hljs-keyword');
    expect(highlight('"<img onerror=1>"', 'javascript')).not.toContain('<img');
    expect(highlight('x', 'klingon')).toBeNull();
    expect(highlight('int x;', 'c')).toContain('hljs-type');
  });
});
