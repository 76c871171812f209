/** Markdown to HTML that may be put into the page, whatever a model or a person wrote. */
import DOMPurify from 'dompurify';
import MarkdownIt, { type Env } from 'markdown-it';
import { cjk } from './cjk';
import { highlight } from './highlight';
import { math } from './math';
import { tasks } from './tasks';
import type { References } from './blocks';

/** Words inside of what is rendered, in the page's language. */
export interface Words {
  copy: string;
  image: string;
}

const md = new MarkdownIt({ html: false, linkify: true, breaks: true }).use(math).use(cjk).use(tasks);
// "main.py" is a file here, not a site in Paraguay.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

const defaultLink =
  md.renderer.rules['link_open'] ??
  ((tokens, at, options, _env, self) => self.renderToken(tokens, at, options));
md.renderer.rules['link_open'] = (tokens, at, options, env, self) => {
  tokens[at]?.attrSet('target', '_blank');
  tokens[at]?.attrSet('rel', 'noopener noreferrer nofollow');
  return defaultLink(tokens, at, options, env, self);
};
// An image would tell its server that it was looked at: it is a link that a person may follow.
md.renderer.rules['image'] = (tokens, at, _options, env = {}) => {
  const token = tokens[at];
  const source = md.utils.escapeHtml(String(token?.attrGet('src') ?? ''));
  const text = md.utils.escapeHtml(token?.content || wordsOf(env).image);
  return `<a href="${source}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;
};
md.renderer.rules['table_open'] = () => '<div class="table" tabindex="0"><table>\n';
md.renderer.rules['table_close'] = () => '</table></div>\n';
// The page's policy has no room for styles in tags.
for (const cell of ['th_open', 'td_open']) {
  md.renderer.rules[cell] = (tokens, at) => {
    const token = tokens[at];
    const side = /center|right/.exec(String(token?.attrGet('style') ?? ''))?.[0];
    return side ? `<${token?.tag} class="${side}">` : `<${token?.tag}>`;
  };
}
md.renderer.rules['fence'] = (tokens, at, _options, env = {}) => {
  const info = (tokens[at]?.info ?? '').trim().split(/\s+/)[0] ?? '';
  return code(tokens[at]?.content ?? '', info, wordsOf(env));
};
md.renderer.rules['code_block'] = (tokens, at, _options, env = {}) =>
  code(tokens[at]?.content ?? '', '', wordsOf(env));

function wordsOf(env: Env): Words {
  return env['words'] as Words;
}

function code(content: string, language: string, words: Words): string {
  const escape = md.utils.escapeHtml;
  const text = content.replace(/\n$/, '');
  const body = (language && highlight(text, language.toLowerCase())) || escape(text);
  return (
    `<div class="code"><div class="code-head"><span>${escape(language)}</span>` +
    `<button type="button" class="copy">${escape(words.copy)}</button></div>` +
    `<pre tabindex="0"><code>${body}</code></pre></div>\n`
  );
}

// What the rules above and markdown-it's own write, and nothing else.
const ALLOWED = {
  ALLOWED_TAGS: (
    'a blockquote br button code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table ' +
    'tbody td th thead tr ul'
  ).split(' '),
  ALLOWED_ATTR: ['class', 'href', 'rel', 'start', 'tabindex', 'target', 'title', 'type'],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

/** HTML of one block. */
export function renderBlock(source: string, references: References, words: Words): string {
  const env: Env = { references: { ...references }, words };
  return DOMPurify.sanitize(md.render(source, env), ALLOWED);
}
