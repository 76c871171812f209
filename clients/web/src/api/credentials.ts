/** The keys a person has typed in. They go into headers alone, never into addresses. */
import { reactive } from 'vue';

type Which = 'key' | 'admin';

const names: Record<Which, string> = { key: 'corral.key', admin: 'corral.admin-key' };

function read(which: Which): string {
  try {
    return sessionStorage.getItem(names[which]) ?? localStorage.getItem(names[which]) ?? '';
  } catch {
    return ''; // storage is forbidden: the key lives as long as the page
  }
}

export const credentials = reactive({ key: read('key'), admin: read('admin') });

/** Keep a key: for this tab, or on this device when `remember` says so. */
export function keep(which: Which, value: string, remember: boolean): void {
  credentials[which] = value;
  try {
    sessionStorage.removeItem(names[which]);
    localStorage.removeItem(names[which]);
    if (value) (remember ? localStorage : sessionStorage).setItem(names[which], value);
  } catch {
    // as above
  }
}

export function forget(which: Which): void {
  keep(which, '', false);
}
