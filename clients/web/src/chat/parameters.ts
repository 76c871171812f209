/** What can be set about an answer, and within which bounds. */
import type { Settings } from '@/api/types';
import type { Key } from '@/i18n';

export type NumberName = Exclude<keyof Settings, 'stop' | 'system'>;

export interface Parameter {
  name: NumberName;
  words: Key;
  about: Key;
  min: number;
  max: number;
  step: number;
  /** Where a slider makes sense, the bounds of it; seeds and lengths have none. */
  slider?: [number, number];
  /** What OpenAI's API does where neither a request nor the registry says anything. */
  usual: number | null;
}

export const parameters: Parameter[] = [
  {
    name: 'temperature',
    words: 'set.temperature',
    about: 'about.temperature',
    min: 0,
    max: 2,
    step: 0.05,
    slider: [0, 2],
    usual: 1,
  },
  {
    name: 'top_p',
    words: 'set.top_p',
    about: 'about.top_p',
    min: 0.01,
    max: 1,
    step: 0.01,
    slider: [0.01, 1],
    usual: 1,
  },
  {
    name: 'top_k',
    words: 'set.top_k',
    about: 'about.top_k',
    min: -1,
    max: 2 ** 31 - 1,
    step: 1,
    slider: [-1, 200],
    usual: -1,
  },
  {
    name: 'min_p',
    words: 'set.min_p',
    about: 'about.min_p',
    min: 0,
    max: 1,
    step: 0.01,
    slider: [0, 1],
    usual: 0,
  },
  {
    name: 'max_tokens',
    words: 'set.max_tokens',
    about: 'about.max_tokens',
    min: 1,
    max: 2 ** 31 - 1,
    step: 1,
    usual: null,
  },
  {
    name: 'presence_penalty',
    words: 'set.presence_penalty',
    about: 'about.presence_penalty',
    min: -2,
    max: 2,
    step: 0.05,
    slider: [-2, 2],
    usual: 0,
  },
  {
    name: 'frequency_penalty',
    words: 'set.frequency_penalty',
    about: 'about.frequency_penalty',
    min: -2,
    max: 2,
    step: 0.05,
    slider: [-2, 2],
    usual: 0,
  },
  {
    name: 'repetition_penalty',
    words: 'set.repetition_penalty',
    about: 'about.repetition_penalty',
    min: 0.01,
    max: 10,
    step: 0.01,
    slider: [0.5, 2],
    usual: 1,
  },
  {
    name: 'seed',
    words: 'set.seed',
    about: 'about.seed',
    min: Number.MIN_SAFE_INTEGER,
    max: Number.MAX_SAFE_INTEGER,
    step: 1,
    usual: null,
  },
];

/** A number from what was typed: null where it is empty, undefined where it cannot be meant. */
export function parsed(parameter: Parameter, text: string): number | null | undefined {
  if (text.trim() === '') return null;
  const value = Number(text);
  if (!Number.isFinite(value)) return undefined;
  if (parameter.step === 1 && !Number.isInteger(value)) return undefined;
  if (parameter.name === 'top_k' && value === 0) return undefined;
  return value >= parameter.min && value <= parameter.max ? value : undefined;
}

/** The settings with one of them changed; null takes it out. */
export function withSetting<N extends keyof Settings>(
  settings: Settings,
  name: N,
  value: Settings[N] | null,
): Settings {
  const changed = { ...settings };
  if (value === null || value === undefined) delete changed[name];
  else changed[name] = value;
  return changed;
}

/** Stop strings as lines, with line ends and tabs spelled as people write them. */
export function stopLines(stop: string[] | undefined): string {
  return (stop ?? [])
    .map((text) => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\t', '\\t'))
    .join('\n');
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', '\\': '\\' };

export function stopStrings(lines: string): string[] | null {
  const found = lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/\\([nt\\])/g, (_, kind: string) => ESCAPES[kind] ?? ''));
  return found.length ? found : null;
}
