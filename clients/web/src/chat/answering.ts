/** One answer as it is written into a line. */
import { reactive } from 'vue';
import { generate, type Progress } from '@/api/generate';
import { ApiError } from '@/api/http';
import type { ChatRequest, Message, Usage } from '@/api/types';
import { bodyOf } from '@/api/words';
import { frames } from './frames';

// A page that is being closed has its streams cut, which is no failure: it does not live so long.
const LEAVING_MS = 300;
// Over a shorter time it is the network that is measured: tokens come several at once.
const SHORTEST_S = 0.1;

export type Written = Pick<
  Message,
  'content' | 'reasoning' | 'usage' | 'finish_reason' | 'error' | 'state'
>;

/** An answer under way. */
export interface Run {
  phase: 'waiting' | 'loading' | 'writing' | 'done';
  progress: Progress | null;
  /** When it was sent, in seconds. */
  begun: number;
  /** So far; 0 until there are two tokens to measure between. */
  tokensPerSecond: number;
  stopped: boolean;
  stop(): void;
}

export function newRun(): { run: Run; signal: AbortSignal } {
  const controller = new AbortController();
  const run = reactive<Run>({
    phase: 'waiting',
    progress: null,
    begun: Date.now() / 1000,
    tokensPerSecond: 0,
    stopped: false,
    stop() {
      run.stopped = true;
      controller.abort();
    },
  });
  return { run, signal: controller.signal };
}

/** Tokens a second, from the first token to the last; null: too few to tell. */
export function speed(usage: Usage | null): number | null {
  const seconds = usage?.timing?.writing ?? 0;
  const tokens = (usage?.completion_tokens ?? 0) - 1;
  return seconds >= SHORTEST_S && tokens > 0 ? tokens / seconds : null;
}

/** Write an answer into `line` until it ends; what goes wrong is written there too. */
export async function answer(
  request: ChatRequest,
  line: Written,
  run: Run,
  signal: AbortSignal,
): Promise<void> {
  const clock = new Clock();
  const before = request.continue_final_message ? line.usage : null;
  const text = frames((more) => (line.content += more));
  const reasoning = frames((more) => (line.reasoning += more));
  let usage: Usage | null = null;
  line.error = null;
  line.finish_reason = null;
  line.state = 'partial';
  try {
    for await (const piece of generate(request, signal)) {
      if (piece.kind === 'progress') {
        run.progress = piece.progress;
        if (run.phase === 'waiting' && piece.progress.status !== 'ready') run.phase = 'loading';
        continue;
      }
      if (piece.kind === 'usage') {
        usage = piece.usage;
        clock.tick(usage.completion_tokens);
        run.tokensPerSecond = speed({ ...usage, timing: clock.timing }) ?? 0;
        continue;
      }
      run.phase = 'writing';
      if (piece.kind === 'text') text.push(piece.text);
      else if (piece.kind === 'reasoning') reasoning.push(piece.text);
      else line.finish_reason = piece.reason;
    }
  } catch (error) {
    if (!run.stopped && !(error instanceof ApiError)) await new Promise((r) => setTimeout(r, LEAVING_MS));
    if (run.stopped) line.finish_reason = 'stopped';
    else line.error = bodyOf(error);
  }
  reasoning.flush();
  text.flush();
  if (usage) line.usage = sum(before, { ...usage, timing: clock.timing });
  line.state = line.error ? 'partial' : 'whole';
  run.phase = 'done';
}

/** An answer that was gone on with counts as one. */
function sum(before: Usage | null, now: Usage): Usage {
  if (!before) return now;
  const completion = before.completion_tokens + now.completion_tokens;
  return {
    ...now,
    prompt_tokens: before.prompt_tokens,
    completion_tokens: completion,
    total_tokens: before.prompt_tokens + completion,
    timing: {
      first: before.timing?.first ?? 0,
      writing: (before.timing?.writing ?? 0) + (now.timing?.writing ?? 0),
    },
  };
}

class Clock {
  readonly #sent = performance.now();
  #first = 0;
  #last = 0;
  #tokens = 0;

  tick(tokens: number): void {
    if (tokens <= this.#tokens) return;
    this.#tokens = tokens;
    this.#last = performance.now();
    this.#first ||= this.#last;
  }

  get timing(): { first: number; writing: number } {
    if (!this.#first) return { first: 0, writing: 0 };
    return {
      first: (this.#first - this.#sent) / 1000,
      writing: (this.#last - this.#first) / 1000,
    };
  }
}
