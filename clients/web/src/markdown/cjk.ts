/**
 * Emphasis beside Chinese, Japanese and Korean text.
 *
 * CommonMark tells opening from closing marks by the spaces and punctuation around them. Such text
 * has no spaces, so `**你好。**世界` would stay full of stars. Beside one of its characters a mark
 * may therefore open and close whatever stands on its other side.
 */
import type { MarkdownIt } from 'markdown-it';

const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff00-\uffef]/u;
const BLANK = /^\s?$/;

export function cjk(md: MarkdownIt): void {
  const State = md.inline.State;
  class FriendlyState extends State {
    override scanDelims(start: number, canSplitWord: boolean) {
      const found = super.scanDelims(start, canSplitWord);
      const before = characterBefore(this.src, start);
      const after = characterAt(this.src, start + found.length);
      if (this.src[start] !== '*' || !(CJK.test(before) || CJK.test(after))) return found;
      return {
        ...found,
        can_open: found.can_open || !BLANK.test(after),
        can_close: found.can_close || !BLANK.test(before),
      };
    }
  }
  md.inline.State = FriendlyState;
}

function characterAt(text: string, at: number): string {
  const code = text.codePointAt(at);
  return code === undefined ? '' : String.fromCodePoint(code);
}

function characterBefore(text: string, at: number): string {
  return [...text.slice(Math.max(0, at - 2), at)].at(-1) ?? '';
}
