/** highlight.js with a dozen languages, fetched when the first code is shown. */
import { shallowRef } from 'vue';

type Highlighter = (code: string, language: string) => string | null;

const highlighter = shallowRef<Highlighter | null>(null);
let asked = false;
// Beyond this, colours are not worth the time that they take.
const LONGEST = 60_000;

/** The code as HTML of spans; null while there is no highlighter, or none for that language. */
export function highlight(code: string, language: string): string | null {
  if (!asked) {
    asked = true;
    void import('./languages').then((module) => {
      highlighter.value = module.highlight;
    });
  }
  return code.length > LONGEST ? null : (highlighter.value?.(code, language) ?? null);
}
