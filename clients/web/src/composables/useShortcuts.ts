/** Keyboard shortcuts, one list for what they do and for the sheet that explains them. */
import { onBeforeUnmount, onMounted } from 'vue';
import type { Key } from '@/i18n';

export type Action =
  | 'new'
  | 'search'
  | 'sidebar'
  | 'focus'
  | 'stop'
  | 'copy'
  | 'parameters'
  | 'help';

export interface Shortcut {
  action: Action;
  words: Key;
  /** As `KeyboardEvent.key`, lower case. */
  key: string;
  mod?: boolean;
  shift?: boolean;
  /** Only while nothing is being typed. */
  outside?: boolean;
}

export const shortcuts: Shortcut[] = [
  { action: 'new', words: 'keys.new', key: 'o', mod: true, shift: true },
  { action: 'search', words: 'keys.search', key: 'k', mod: true },
  { action: 'sidebar', words: 'keys.sidebar', key: 's', mod: true, shift: true },
  { action: 'parameters', words: 'keys.parameters', key: '.', mod: true },
  { action: 'focus', words: 'keys.focus', key: '/', outside: true },
  { action: 'copy', words: 'keys.copy', key: 'u', mod: true, shift: true },
  { action: 'stop', words: 'keys.stop', key: 'escape' },
  { action: 'help', words: 'keys.help', key: '/', mod: true },
  { action: 'help', words: 'keys.help', key: '?', outside: true },
];

export const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);

/** The keys of a shortcut, as they are printed on this machine's keyboard. */
export function keysOf({ key, mod, shift }: Shortcut): string[] {
  const name = key === 'escape' ? 'Esc' : key.length === 1 ? key.toUpperCase() : key;
  return [...(mod ? [isMac ? '⌘' : 'Ctrl'] : []), ...(shift ? [isMac ? '⇧' : 'Shift'] : []), name];
}

export function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && !!target.closest('input, textarea, select, [contenteditable]');
}

export function match(event: KeyboardEvent): Action | null {
  // An input method uses Escape and others for itself.
  if (event.isComposing || event.altKey) return null;
  const mod = isMac ? event.metaKey : event.ctrlKey;
  const found = shortcuts.find(
    (shortcut) =>
      shortcut.key === event.key.toLowerCase() &&
      !!shortcut.mod === mod &&
      // "?" needs Shift on most keyboards and is not meant with it.
      (shortcut.key === '?' || !!shortcut.shift === event.shiftKey) &&
      !(shortcut.outside && typing(event.target)),
  );
  return found?.action ?? null;
}

type Handlers = Partial<Record<Action, () => boolean | void>>;

/** Call a handler for each shortcut while the component is there; one that returns false passes. */
export function useShortcuts(handlers: Handlers): void {
  function listen(event: KeyboardEvent): void {
    if (event.defaultPrevented) return;
    const action = match(event);
    const handler = action && handlers[action];
    if (handler && handler() !== false) event.preventDefault();
  }
  onMounted(() => window.addEventListener('keydown', listen));
  onBeforeUnmount(() => window.removeEventListener('keydown', listen));
}
