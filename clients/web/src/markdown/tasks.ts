/** `- [ ] to do` and `- [x] done` as boxes. */
import type { MarkdownIt } from 'markdown-it';

const MARK = /^\[([ xX])\]\s+/;

export function tasks(md: MarkdownIt): void {
  md.core.ruler.after('inline', 'tasks', ({ tokens }) => {
    tokens.forEach((token, at) => {
      const first = token.type === 'inline' ? token.children?.[0] : undefined;
      if (first?.type !== 'text' || tokens[at - 2]?.type !== 'list_item_open') return;
      first.content = first.content.replace(MARK, (_, mark) => (mark === ' ' ? '☐ ' : '☑ '));
    });
  });
}
