import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { inMemory, titleOf } from '@/api/memory';
import type { Chat } from '@/api/types';
import { readable } from '@/chat/pieces';
import { parameters, parsed, stopLines, stopStrings, withSetting } from '@/chat/parameters';
import { byTouch } from '@/composables/narrow';
import { sends } from '@/composables/sends';
import { match } from '@/composables/useShortcuts';
import { bytes, preferred, setLocale, t } from '@/i18n';
import { en } from '@/i18n/en';
import { zh } from '@/i18n/zh';
import { grouped } from '@/stores/grouping';
import { stages } from '@/stores/compare';
import { preferences } from '@/stores/preferences';
import { model } from './support/fake';

const find = (name: string) => parameters.find((parameter) => parameter.name === name)!;

describe('parameters', () => {
  it.each<[string, string, number | null | undefined]>([
    ['temperature', '0.5', 0.5],
    ['temperature', ' 2 ', 2],
    ['temperature', '2.1', undefined],
    ['temperature', '', null],
    ['temperature', 'warm', undefined],
    ['top_p', '0', undefined],
    ['top_k', '-1', -1],
    ['top_k', '0', undefined],
    ['top_k', '1.5', undefined],
    ['max_tokens', '1e3', 1000],
    ['max_tokens', '0', undefined],
    ['seed', '-42', -42],
    ['seed', '0.5', undefined],
  ])('%s from "%s"', (name, text, expected) => {
    expect(parsed(find(name), text)).toBe(expected);
  });

  it('are absent when they are taken back', () => {
    const set = withSetting({ top_k: 3 }, 'temperature', 0);
    expect(set).toEqual({ top_k: 3, temperature: 0 });
    expect(withSetting(set, 'top_k', null)).toEqual({ temperature: 0 });
  });

  it('spell stop strings in lines', () => {
    const stop = ['\n\n', 'User:', '\t', 'a\\n'];
    expect(stopLines(stop)).toBe('\\n\\n\nUser:\n\\t\na\\\\n');
    expect(stopStrings(stopLines(stop))).toEqual(stop);
    expect(stopStrings('\n\n')).toBeNull();
  });
});

describe('Enter', () => {
  const press = (fields: KeyboardEventInit) => sends(new KeyboardEvent('keydown', { key: 'Enter', ...fields }));

  it('sends, and with Shift does not', () => {
    preferences.enterSends = true;
    expect([press({}), press({ shiftKey: true }), press({ altKey: true })]).toEqual([true, false, false]);
  });

  it('is a new line on a keyboard on the screen, which has no other', () => {
    Object.assign(byTouch, { matches: true });
    expect([press({}), press({ ctrlKey: true })]).toEqual([false, true]);
    Object.assign(byTouch, { matches: false });
  });

  it('takes a candidate while an input method is composing', () => {
    expect(press({ isComposing: true })).toBe(false);
    expect(press({ keyCode: 229 })).toBe(false);
  });

  it('sends only with Ctrl for who wants it so', () => {
    preferences.enterSends = false;
    expect([press({}), press({ ctrlKey: true }), press({ metaKey: true })]).toEqual([false, true, true]);
    preferences.enterSends = true;
  });
});

describe('shortcuts', () => {
  const press = (init: KeyboardEventInit, target: Element = document.body) => {
    let found: string | null = null;
    const listen = (event: Event) => (found = match(event as KeyboardEvent));
    document.body.append(target === document.body ? document.createElement('i') : target);
    window.addEventListener('keydown', listen, { once: true });
    target.dispatchEvent(new KeyboardEvent('keydown', { bubbles: true, ...init }));
    return found;
  };

  it('are told apart', () => {
    expect(press({ key: 'k', ctrlKey: true })).toBe('search');
    expect(press({ key: 'O', ctrlKey: true, shiftKey: true })).toBe('new');
    expect(press({ key: 'k' })).toBeNull();
    expect(press({ key: 'Escape' })).toBe('stop');
    expect(press({ key: 'Escape', isComposing: true })).toBeNull();
  });

  it('leave letters to who is typing', () => {
    const area = document.createElement('textarea');
    expect(press({ key: '?', shiftKey: true })).toBe('help');
    expect(press({ key: '?', shiftKey: true }, area)).toBeNull();
    expect(press({ key: '/', ctrlKey: true }, area)).toBe('help');
  });
});

describe('the list of chats', () => {
  const at = (updated: Date, pinned = false): Chat => ({
    id: String(updated.getTime()),
    title: '',
    pinned,
    model: null,
    settings: {},
    leaf: null,
    created: 0,
    updated: updated.getTime() / 1000,
    messages: 0,
  });

  it('is grouped by day, then by month', () => {
    const now = new Date(2026, 4, 20, 15);
    const days = [0, 1, 3, 20, 60].map((ago) => new Date(2026, 4, 20 - ago, 9));
    const groups = grouped([at(days[4]!, true), ...days.map((day) => at(day))], now);
    expect(groups.map((group) => group.name)).toEqual([
      'Pinned',
      'Today',
      'Yesterday',
      'Last 7 days',
      'Last 30 days',
      'March 2026',
    ]);
  });
});

describe('history in memory', () => {
  it('pages, finds and orders chats as the server does', async () => {
    const history = inMemory();
    for (const title of ['a', 'b', 'c']) await history.create({ title });
    const first = (await history.chats({ limit: 2 })).data;
    const page = await history.chats({ limit: 2 });
    expect(first).toHaveLength(2);
    expect((await history.chats({ limit: 2, after: page.next })).data).toHaveLength(1);
    const b = (await history.chats({ q: 'b' })).data[0]!;
    await history.add(b.id, { parent: null, role: 'user', content: 'a needle' });
    expect((await history.chats({ q: 'NEEDLE' })).data.map((chat) => chat.title)).toEqual(['b']);
    await history.change(b.id, { pinned: true });
    expect((await history.chats({})).data[0]?.title).toBe('b');
  });

  it('names a chat by its first line', () => {
    expect(titleOf('\n  First line\nsecond')).toBe('First line');
    expect(titleOf('你'.repeat(70))).toBe('你'.repeat(60));
  });
});

describe('words', () => {
  const holes = (text: unknown) => [...new Set(JSON.stringify(text).match(/\{\w+\}/g))].sort();

  it('are the same in both languages', () => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
    for (const key of Object.keys(en) as (keyof typeof en)[]) {
      expect([key, holes(zh[key])]).toEqual([key, holes(en[key])]);
    }
  });

  it('are all used', () => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' });
    const sources = files
      .filter((name) => /\.(vue|ts)$/.test(name) && !/i18n.(en|zh)\.ts$/.test(name))
      .map((name) => readFileSync(join('src', name), 'utf8'))
      .join('\n');
    const unused = Object.keys(en).filter(
      (key) => !sources.includes(`'${key}'`) && !key.startsWith('look.'),
    );
    expect(unused).toEqual([]);
  });

  it('fill in and count', async () => {
    expect(t('facts.tokens', { n: 1 })).toBe('1 token');
    expect(t('facts.tokens', { n: 1234 })).toBe('1,234 tokens');
    await setLocale('zh');
    expect(t('facts.tokens', { n: 1234 })).toBe('1,234 个 token');
    expect(document.documentElement.lang).toBe('zh-CN');
    await setLocale('en');
    expect(bytes(1_536_000_000)).toBe('1.5 GB');
    expect(bytes(0)).toBe('0 B');
  });

  it('are in the browser’s language, if the page has it', () => {
    expect(preferred(['fr-FR', 'zh-TW', 'en'])).toBe('zh');
    expect(preferred(['de'])).toBe('en');
  });
});

describe('comparing begins with', () => {
  const made = (id: string, root: string, base: string | null = null) => ({ ...model, id, root, base });
  const herd = [
    made('chat', 'smol'),
    made('other', 'big'),
    made('raw', 'smol'),
    made('alpaca', 'alpaca-files', 'raw'),
    made('poet', 'poet-files', 'other'),
  ];

  it('the stages of the same weights, with adapters of any of them', () => {
    expect(stages(herd, 'chat')).toEqual(['chat', 'raw', 'alpaca']);
    expect(stages(herd, 'alpaca')).toEqual(['chat', 'raw', 'alpaca']);
    expect(stages(herd, 'other')).toEqual(['other', 'poet']);
  });

  it('all models where weights have but one', () => {
    expect(stages([...herd, made('lone', 'lone')], 'lone')).toEqual(['chat', 'other', 'raw', 'alpaca']);
    expect(stages([], null)).toEqual([]);
  });
});

describe('tokens', () => {
  it('of bytes are read as the text they are', () => {
    expect(readable(['<|im_start|>', 'user', 'Ċ', 'ĠHello', 'ä½łå¥½', 'Ã©'])).toEqual([
      '<|im_start|>', 'user', '⏎', '·Hello', '你好', 'é',
    ]);
    // Half a character, and what is no spelling of bytes.
    expect(readable(['Ġ', 'ä½', '<｜end｜>'])).toEqual(['·', '\\xe4\\xbd', '<｜end｜>']);
  });

  it('of other vocabularies keep their letters', () => {
    expect(readable(['▁the', 'é', 'a b', '<0x0A>'])).toEqual(['·the', 'é', 'a·b', '<0x0A>']);
  });
});
