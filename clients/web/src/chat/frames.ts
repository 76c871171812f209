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
  let waiting = false;
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

  function frame(): void {
    waiting = false;
    flush();
  }

  function push(text: string): void {
    pending += text;
    if (waiting) return;
    waiting = true;
    const rest = cost * REST - (performance.now() - lastAt);
    // Hidden pages have no frames.
    if (document.hidden) setTimeout(frame, HIDDEN_MS);
    else if (rest > 0) setTimeout(() => requestAnimationFrame(frame), rest);
    else requestAnimationFrame(frame);
  }

  return { push, flush };
}
