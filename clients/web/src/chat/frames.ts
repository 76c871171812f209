/** Text that comes token by token, handed on once a frame. */
import { nextTick } from 'vue';

// A slow render gets this many times its own duration for everything else, typing above all.
const REST = 3;
const HIDDEN_MS = 250;

export interface Frames {
  push(text: string): void;
  /** Hand on what is left, now. */
  flush(): void;
}

export function frames(take: (text: string) => void): Frames {
  let pending = '';
  /** The frame that is waited for; 0: none. */
  let waiting = 0;
  let turn = 0;
  let cost = 0;
  let lastAt = 0;

  function flush(): void {
    if (!pending) return;
    const text = pending;
    pending = '';
    const begun = performance.now();
    take(text);
    void nextTick(() => {
      lastAt = performance.now();
      cost = lastAt - begun;
    });
  }

  function frame(mine: number): void {
    if (waiting !== mine) return;
    waiting = 0;
    flush();
  }

  function push(text: string): void {
    pending += text;
    if (waiting) return;
    const mine = (waiting = ++turn);
    const rest = Math.max(0, cost * REST - (performance.now() - lastAt));
    if (rest > 0) setTimeout(() => requestAnimationFrame(() => frame(mine)), rest);
    else requestAnimationFrame(() => frame(mine));
    // Hidden pages have no frames, and a page may be hidden while it waits for one.
    setTimeout(() => frame(mine), rest + HIDDEN_MS);
  }

  return { push, flush };
}
