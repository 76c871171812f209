/** The page's words, in two languages; keys are checked by the compiler. */
import { computed, ref } from 'vue';
import { en } from './en';

export type Locale = 'en' | 'zh';
export type Key = keyof typeof en;
/** A text, or two for languages that tell one from many. */
export type Text = string | { one: string; other: string };
export type Words = Record<Key, Text>;

export const locales: Record<Locale, string> = { en: 'English', zh: '简体中文' };

const words = ref<Words>(en);
const current = ref<Locale>('en');
export const locale = computed(() => current.value);

export async function setLocale(wanted: Locale): Promise<void> {
  words.value = wanted === 'zh' ? (await import('./zh')).zh : en;
  current.value = wanted;
  document.documentElement.lang = wanted === 'zh' ? 'zh-CN' : 'en';
}

/** The language that a browser asks for, as far as the page has it. */
export function preferred(languages: readonly string[]): Locale {
  const known = languages.find((language) => /^(en|zh)\b/i.test(language));
  return known?.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

/** The words for a key. `{name}` in them is filled in; `n` chooses between one and many. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const text = words.value[key];
  const chosen = typeof text === 'string' ? text : values['n'] === 1 ? text.one : text.other;
  return chosen.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === 'number' ? number(value) : value;
  });
}

export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(current.value, { maximumFractionDigits: digits }).format(value);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Bytes as people say them, such as 1.5 GB. */
export function bytes(value: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(value, 1)) / 3));
  const scaled = value / 1000 ** power;
  return `${number(scaled, scaled < 10 ? 1 : 0)} ${UNITS[power]}`;
}

export function moment(seconds: number): string {
  return new Intl.DateTimeFormat(current.value, {
    dateStyle: 'medium',
    timeStyle: 'short',
  }).format(seconds * 1000);
}

export function month(seconds: number): string {
  return new Intl.DateTimeFormat(current.value, { month: 'long', year: 'numeric' }).format(
    seconds * 1000,
  );
}
