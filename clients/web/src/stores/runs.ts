/** Answers under way, in whichever chat; they go on while another one is looked at. */
import { defineStore } from 'pinia';
import { shallowReactive } from 'vue';
import type { ChatRequest, Message, MessageChange } from '@/api/types';
import { type Run, answer, newRun } from '@/chat/answering';
import { type Line, adopt } from '@/chat/lines';
import { t } from '@/i18n';
import { useChats } from './chats';
import { useNotices } from './notices';
import { useSession } from './session';

const SAVE_EVERY_MS = 2000;
// Browsers let a request of this size outlive its page.
const MOST_KEPT_ALIVE = 60_000;

interface Entry {
  chat: string;
  line: Line;
  run: Run;
}

export const useRuns = defineStore('runs', () => {
  const session = useSession();
  const notices = useNotices();
  const chats = useChats();
  /** By the line's key. */
  const entries = shallowReactive(new Map<string, Entry>());
  /** Those whose last words are not kept yet. */
  const unsaved = new Set<Entry>();

  function of(line: Line): Run | undefined {
    return entries.get(line.key)?.run;
  }

  function inChat(chat: string | undefined): Entry[] {
    return [...entries.values()].filter((entry) => entry.chat === chat);
  }

  /** The line of a message that is being written, which is ahead of what is stored. */
  function lineOf(id: string): Line | undefined {
    return [...entries.values()].find((entry) => entry.line.id === id)?.line;
  }

  /**
   * Have an answer written into `line`.
   *
   * @param saving The line as the server stores it, once it does.
   */
  async function start(
    chat: string,
    line: Line,
    request: ChatRequest,
    saving: Promise<Message>,
  ): Promise<void> {
    const { run, signal } = newRun();
    const entry = { chat, line, run };
    entries.set(line.key, entry);
    notices.speak(t('say.started'));
    // First: a page that is closed at any time after has a place to keep what was written.
    const stored = await saving.then(
      (message) => (adopt(line, message), true),
      (error: unknown) => (session.failed(error), false),
    );
    if (stored) unsaved.add(entry);
    // One after the other: a slow one that is overtaken would put back what it began with.
    let saved: Promise<void> | null = null;
    const timer = setInterval(() => {
      if (stored) saved ??= save(chat, line).finally(() => (saved = null));
    }, SAVE_EVERY_MS);
    await answer(request, line, run, signal);
    clearInterval(timer);
    entries.delete(line.key);
    notices.speak(t(line.error ? 'say.failed' : run.stopped ? 'say.stopped' : 'say.finished'));
    if (line.error?.code === 'unreachable' || line.error?.code === 'cut_off') void check();
    if (!stored) return;
    await saved;
    await save(chat, line);
    unsaved.delete(entry);
    await session.history.chat(chat).then(chats.put, () => undefined);
  }

  /** Whether the server is still there, after a stream that broke. */
  async function check(): Promise<void> {
    await session.start();
  }

  async function save(chat: string, line: Line): Promise<void> {
    await session.history.update(chat, line.id, changeOf(line)).catch(session.failed);
  }

  /** The page is being closed: keep what has been written. */
  function keepAll(): void {
    for (const { chat, line, run } of unsaved) {
      // A stream that is cut now is no failure of its own.
      const ended = run.phase === 'done';
      const change = ended ? changeOf(line) : { ...changeOf(line), state: 'partial' as const, error: null };
      if (JSON.stringify(change).length > MOST_KEPT_ALIVE) continue;
      void session.history.update(chat, line.id, change, true).catch(() => undefined);
    }
  }

  return { entries, of, inChat, lineOf, start, keepAll };
});

function changeOf(line: Line): MessageChange {
  const { content, reasoning, usage, finish_reason, error, state } = line;
  return { content, reasoning, usage, finish_reason, error, state };
}
