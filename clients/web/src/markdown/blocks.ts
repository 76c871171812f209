/**
 * A growing text as its top-level blocks, so that only the last of them is rendered again.
 *
 * A block is finished when a later one has a whole line: nothing that follows can change it then.
 * What is finished is never looked at again.
 */
import MarkdownIt, { type Env, type Token } from 'markdown-it';
import { math } from './math';

/** Reference definitions (`[name]: address`) of all blocks, which any block may use. */
export type References = NonNullable<Env['references']>;

const scanner = new MarkdownIt().use(math);
scanner.core.ruler.enableOnly(['normalize', 'block']);

export class Blocks {
  /** Sources of the blocks, in order. Joined, they are the text. */
  readonly sources: string[] = [];
  references: References = {};
  #text = '';
  /** Where the first unfinished block begins, and its number. */
  #open = 0;
  #finished = 0;

  /** Take the text as it is now; an appended one costs no more than its unfinished end. */
  update(text: string): string[] {
    if (!text.startsWith(this.#text)) {
      this.#open = this.#finished = 0;
      this.references = {};
    }
    this.#text = text;
    const tail = text.slice(this.#open);
    const env: Env = {};
    const starts = offsets(tail, scanner.parse(tail, env));
    this.sources.length = this.#finished;
    starts.forEach((start, at) => this.sources.push(tail.slice(start, starts[at + 1])));
    this.references = { ...env.references, ...this.references };
    this.#close(tail, starts);
    return this.sources;
  }

  #close(tail: string, starts: number[]): void {
    for (let at = starts.length - 1; at > 0; at--) {
      const start = starts[at] as number;
      if (!tail.slice(start).includes('\n')) continue;
      this.#finished += at;
      this.#open += start;
      return;
    }
  }
}

/** Where the top-level blocks of a text begin; the first begins at 0, whatever stands before it. */
function offsets(text: string, tokens: Token[]): number[] {
  const lines: number[] = [];
  for (const token of tokens) {
    if (token.level === 0 && token.nesting >= 0 && token.map) lines.push(token.map[0]);
  }
  if (lines.length === 0) return text ? [0] : [];
  const starts = [0];
  let line = 0;
  let at = 0;
  for (const wanted of lines.slice(1)) {
    for (; line < wanted; line++) at = text.indexOf('\n', at) + 1;
    starts.push(at);
  }
  return starts;
}
