import { byTouch } from '@/composables/narrow';
import { preferences } from '@/stores/preferences';

/**
 * Whether a key press in a text means: send.
 *
 * Never while an input method is composing: its Enter takes a candidate. Safari ends the
 * composition before that Enter arrives, and gives it away by the key code 229 alone. Keyboards on
 * a screen have no Shift+Enter, so there Enter is a new line: the button beside the text sends.
 */
export function sends(event: KeyboardEvent): boolean {
  if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229) return false;
  const mod = event.ctrlKey || event.metaKey;
  if (mod || !preferences.enterSends || byTouch.matches) return mod;
  return !event.shiftKey && !event.altKey;
}
