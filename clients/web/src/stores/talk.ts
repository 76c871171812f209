/** What is said in the open chat, and answered. */
import { defineStore } from 'pinia';
import type { ChatRequest, Message, Settings } from '@/api/types';
import { type Line, adopt, continuing, newLine, requestFor } from '@/chat/lines';
import { useChat } from './chat';
import { useRuns } from './runs';
import { useSession } from './session';

// What the server gives at once.
const MOST = 200;

/** Who answers, and how. */
interface Ask {
  model: string;
  settings: Settings;
}

export const useTalk = defineStore('talk', () => {
  const session = useSession();
  const chat = useChat();
  const runs = useRuns();
  /** Lines that are being kept: what follows one waits until it has its id. */
  const saving = new WeakMap<Line, Promise<unknown>>();
  /** The messages before a line, which no branch changes; those of the last long chat. */
  let older: { before: string; messages: Message[] } | null = null;

  /** Say something, and have it answered. Whether it was kept; if not, people are told why. */
  function send(content: string): Promise<boolean> {
    return say(content, chat.path, null);
  }

  /** Say something else instead of `line`: a branch beside it. */
  async function edit(line: Line, content: string): Promise<boolean> {
    const above = chat.path.slice(0, chat.path.indexOf(line));
    if (line.role === 'user') return say(content, above, line.parent);
    const { parent, role, model } = line;
    return (await keep(above, newLine({ parent, role, content, model }))) !== null;
  }

  async function say(content: string, above: Line[], parent: string | null): Promise<boolean> {
    const line = newLine({ parent, role: 'user', content });
    const settings = chat.settings;
    const id = await keep(above, line);
    if (id && chat.model) void respond(id, [...above, line], { model: chat.model, settings });
    return id !== null;
  }

  /** Show a line and keep it; its chat, or null and what was shown before if that fails. */
  async function keep(above: Line[], line: Line): Promise<string | null> {
    const shown = chat.path;
    chat.path = [...above, line];
    const kept = store(above.at(-1), line);
    saving.set(line, kept);
    try {
      return await kept;
    } catch (error) {
      if (chat.path.at(-1) === line) chat.path = shown;
      session.failed(error);
      return null;
    }
  }

  async function store(above: Line | undefined, line: Line): Promise<string> {
    if (above) await saving.get(above);
    const id = await chat.ensure();
    line.parent = above?.id ?? line.parent;
    const { parent, role, content, model } = line;
    adopt(line, await session.history.add(id, { parent, role, content, model }));
    await chat.said(id, line.id);
    return id;
  }

  /** Have a model answer the last of some lines; beside other answers if there are some. */
  async function respond(id: string, lines: Line[], ask: Ask): Promise<void> {
    const above = lines.at(-1);
    if (!above) return;
    const line = newLine({
      parent: above.id,
      role: 'assistant',
      content: '',
      model: ask.model,
      params: ask.settings,
      state: 'partial',
    });
    let request: ChatRequest;
    try {
      request = requestFor(ask.model, ask.settings, await whole(id, lines));
    } catch (error) {
      session.failed(error);
      return;
    }
    const at = chat.path.indexOf(above);
    if (at >= 0) chat.path = [...chat.path.slice(0, at + 1), line];
    const { parent, role, content, model, params, state } = line;
    const kept = session.history.add(id, { parent, role, content, model, params, state });
    saving.set(line, kept);
    await runs.start(id, line, request, kept);
  }

  /** Lines with all that came before them: what a model is asked with. */
  async function whole(id: string, lines: Message[]): Promise<Message[]> {
    const first = lines[0];
    if (!first?.parent) return lines;
    if (older?.before !== first.id) {
      const messages: Message[] = [];
      for (let before: string | null = first.id; before; ) {
        const page = await session.history.messages(id, { before, limit: MOST });
        messages.unshift(...page.data);
        before = page.before;
      }
      older = { before: first.id, messages };
    }
    return [...older.messages, ...lines];
  }

  /** Answer once more: in the place of an answer that says nothing, else beside it. */
  async function regenerate(line: Line): Promise<void> {
    const id = chat.chat?.id;
    if (!id || !chat.model) return;
    const ask = { model: chat.model, settings: chat.settings };
    if (chat.path[0] === line) await chat.earlier();
    const lines = chat.path.slice(0, chat.path.indexOf(line));
    const silent = line.error && !line.content && !line.reasoning;
    if (silent && line.id !== line.key)
      await session.history.removeMessage(id, line.id).catch(() => undefined);
    await respond(id, lines, ask);
  }

  /** Go on with an answer that was stopped, or that reached its longest. */
  async function proceed(line: Line): Promise<void> {
    const id = chat.chat?.id;
    const model = line.model ?? chat.model;
    if (!id || !model) return;
    const lines = chat.path.slice(0, chat.path.indexOf(line) + 1);
    const settings = line.params ?? chat.settings;
    const request = continuing(requestFor(model, settings, await whole(id, lines)));
    await runs.start(id, line, request, Promise.resolve(line));
  }

  function stop(): void {
    chat.running.forEach((entry) => entry.run.stop());
  }

  return { send, edit, regenerate, proceed, stop, whole };
});
