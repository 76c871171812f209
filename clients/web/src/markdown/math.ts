/** TeX in Markdown: $…$, $$…$$, \(…\) and \[…\], as elements that `typeset` fills in later. */
import type { MarkdownIt, StateBlock, StateInline } from 'markdown-it';

const SPACE = /\s/;
const DIGIT = /\d/;

export function math(md: MarkdownIt): void {
  md.inline.ruler.before('escape', 'math', inline);
  md.block.ruler.before('fence', 'math_block', block, {
    alt: ['paragraph', 'reference', 'blockquote', 'list'],
  });
  md.renderer.rules['math'] = (tokens, at) => element('span', tokens[at]?.content ?? '', md);
  md.renderer.rules['math_display'] = (tokens, at) =>
    element('span', tokens[at]?.content ?? '', md, true);
  md.renderer.rules['math_block'] = (tokens, at) =>
    element('div', tokens[at]?.content ?? '', md, true) + '\n';
}

function element(tag: string, tex: string, md: MarkdownIt, display = false): string {
  const text = md.utils.escapeHtml(tex.trim());
  return `<${tag} class="math${display ? ' display' : ''}">${text}</${tag}>`;
}

function inline(state: StateInline, silent: boolean): boolean {
  const { src, pos } = state;
  const two = src.slice(pos, pos + 2);
  let found: Span | null = null;
  if (two === '\\(') found = upTo(src, pos + 2, '\\)');
  else if (two === '\\[') found = upTo(src, pos + 2, '\\]');
  else if (two === '$$') found = upTo(src, pos + 2, '$$');
  else if (src[pos] === '$') found = dollar(src, pos);
  if (!found || found.end > state.posMax) return false;
  if (!silent) {
    const kind = two === '\\[' || two === '$$' ? 'math_display' : 'math';
    state.push(kind, 'math', 0).content = found.tex;
  }
  state.pos = found.end;
  return true;
}

interface Span {
  tex: string;
  end: number;
}

function upTo(src: string, begin: number, close: string): Span | null {
  const at = src.indexOf(close, begin);
  const tex = at < 0 ? '' : src.slice(begin, at);
  return tex.trim() ? { tex, end: at + close.length } : null;
}

/** Pandoc's rule, so that "it costs $5 and $6" stays text: no space inside, no digit after. */
function dollar(src: string, pos: number): Span | null {
  if (!src[pos + 1] || SPACE.test(src[pos + 1] as string)) return null;
  for (let at = pos + 1; at < src.length; at++) {
    if (src[at] === '\\') at++;
    else if (src[at] === '\n' && src[at + 1] === '\n') return null;
    else if (src[at] === '$') {
      if (SPACE.test(src[at - 1] as string)) continue;
      if (DIGIT.test(src[at + 1] ?? '')) return null;
      return { tex: src.slice(pos + 1, at), end: at + 1 };
    }
  }
  return null;
}

function block(state: StateBlock, start: number, end: number, silent: boolean): boolean {
  const first = lineOf(state, start);
  const open = first.startsWith('$$') ? '$$' : first.startsWith('\\[') ? '\\[' : null;
  if (!open || (state.sCount[start] ?? 0) - state.blkIndent >= 4) return false;
  const close = open === '$$' ? '$$' : '\\]';
  const lines: string[] = [];
  for (let line = start; line < end; line++) {
    if (line > start && (state.sCount[line] ?? 0) < state.blkIndent) break;
    let text = lineOf(state, line);
    if (line === start) text = text.slice(open.length);
    const at = text.indexOf(close);
    if (at < 0) {
      lines.push(text);
      continue;
    }
    // Text after it: this is display math in the middle of a sentence, for `inline`.
    if (text.slice(at + close.length).trim()) return false;
    lines.push(text.slice(0, at));
    if (!lines.join('').trim()) return false;
    return emit(state, start, line + 1, lines, silent);
  }
  // Not closed yet: an answer that is still being written.
  return emit(state, start, end, lines, silent);
}

function lineOf(state: StateBlock, line: number): string {
  return state.src.slice(
    (state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0),
    state.eMarks[line] ?? 0,
  );
}

function emit(
  state: StateBlock,
  start: number,
  next: number,
  lines: string[],
  silent: boolean,
): boolean {
  if (silent) return true;
  const token = state.push('math_block', 'math', 0);
  token.block = true;
  token.content = lines.join('\n');
  token.map = [start, next];
  state.line = next;
  return true;
}
