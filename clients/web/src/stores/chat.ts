/** The open chat: its path from the first message to the leaf, and what is done to it. */
import { defineStore } from 'pinia';
import { computed, ref, shallowRef } from 'vue';
import { ApiError } from '@/api/http';
import type { Chat, ChatRequest, Message, Settings } from '@/api/types';
import { type Line, adopt, continuing, lineOf, newLine, requestFor } from '@/chat/lines';
import { t } from '@/i18n';
import { useChats } from './chats';
import { useModels } from './models';
import { preferences } from './preferences';
import { useRuns } from './runs';
import { useSession } from './session';

const PAGE = 100;
// What the server gives at once.
const MOST = 200;

export const useChat = defineStore('chat', () => {
  const session = useSession();
  const models = useModels();
  const chats = useChats();
  const runs = useRuns();

  const chat = shallowRef<Chat | null>(null);
  const path = shallowRef<Line[]>([]);
  /** Where what was not fetched yet ends; null: the path begins with the first message. */
  const before = ref<string | null>(null);
  const loading = ref(false);
  const missing = ref(false);
  /** The chat that is being fetched, or was. */
  let wanted: string | null = null;
  /** Of a chat that is not there yet. */
  const chosen = ref<string | null>(null);
  const drafted = ref<Settings>({});

  const settings = computed(() => chat.value?.settings ?? drafted.value);
  const model = computed(() => chat.value?.model ?? chosen.value ?? models.first);
  const running = computed(() =>
    runs.inChat(chat.value?.id).filter(({ line }) => path.value.includes(line)),
  );

  function blank(): void {
    wanted = null;
    chat.value = null;
    path.value = [];
    before.value = null;
    missing.value = false;
    loading.value = false;
    chosen.value = null;
    drafted.value = {};
  }

  async function open(id: string): Promise<void> {
    if (chat.value?.id === id) return;
    blank();
    wanted = id;
    loading.value = true;
    try {
      const [found, page] = await Promise.all([
        session.history.chat(id),
        session.history.messages(id, { limit: PAGE }),
      ]);
      if (wanted !== id) return;
      chat.value = found;
      show(page.data.map(lineFor), page.before);
    } catch (error) {
      if (wanted !== id) return;
      missing.value = error instanceof ApiError && error.status === 404;
      if (!missing.value) session.failed(error);
    }
    loading.value = false;
  }

  function lineFor(message: Message): Line {
    const known = path.value.find((line) => line.id === message.id);
    if (known) known.siblings = message.siblings;
    return runs.lineOf(message.id) ?? known ?? lineOf(message);
  }

  function show(lines: Line[], begin: string | null): void {
    path.value = lines;
    before.value = begin;
  }

  /** Fetch messages before those that are here. */
  async function earlier(limit = PAGE): Promise<void> {
    const id = chat.value?.id;
    if (!id || before.value === null) return;
    const page = await session.history.messages(id, { before: before.value, limit });
    if (chat.value?.id === id) show([...page.data.map(lineOf), ...path.value], page.before);
  }

  /** The whole path, from the first message: what a model is asked with. */
  async function whole(): Promise<Line[]> {
    while (before.value !== null) await earlier(MOST);
    return path.value;
  }

  async function change(fields: { model?: string; settings?: Settings }): Promise<void> {
    if (fields.model) preferences.model = fields.model;
    if (!chat.value) {
      chosen.value = fields.model ?? chosen.value;
      drafted.value = fields.settings ?? drafted.value;
      return;
    }
    const before = chat.value;
    chat.value = { ...before, ...fields };
    const changed = await chats.change(before.id, fields);
    if (changed === null && chat.value?.id === before.id) chat.value = before;
  }

  async function ensure(): Promise<Chat> {
    if (!model.value) throw new Error(t('model.none'));
    if (chat.value) return chat.value;
    const made = await session.history.create({ model: model.value, settings: drafted.value });
    chat.value = made;
    return made;
  }

  /** Say something, and have it answered. Whether it was kept; if not, people are told why. */
  async function send(content: string): Promise<boolean> {
    return say(content, path.value);
  }

  /** Say something else instead of `line`: a branch beside it. */
  async function edit(line: Line, content: string): Promise<boolean> {
    const above = path.value.slice(0, path.value.indexOf(line));
    if (line.role === 'user') return say(content, above);
    const other = newLine({ parent: line.parent, role: line.role, content, model: line.model });
    return attempt(above, other, async () => undefined);
  }

  async function say(content: string, above: Line[]): Promise<boolean> {
    const parent = above.at(-1)?.id ?? null;
    const line = newLine({ parent, role: 'user', content });
    return attempt(above, line, () => respond(line));
  }

  /** Show a line, keep it, go on; or show what was there before. */
  async function attempt(
    above: Line[],
    line: Line,
    then: () => Promise<unknown>,
  ): Promise<boolean> {
    const shown = path.value;
    path.value = [...above, line];
    try {
      const { id } = await ensure();
      const { parent, role, content, model } = line;
      adopt(line, await session.history.add(id, { parent, role, content, model }));
      await named(line);
    } catch (error) {
      path.value = shown;
      session.failed(error);
      return false;
    }
    void then();
    return true;
  }

  /** A first message gives its chat a title. */
  async function named(line: Line): Promise<void> {
    let found = chat.value;
    if (!found) return;
    if (!found.title) found = await session.history.chat(found.id);
    found = { ...found, leaf: line.id, updated: Date.now() / 1000 };
    chats.put(found);
    if (chat.value?.id === found.id) chat.value = found;
  }

  /** Have the model answer the last line above; beside other answers if there are some. */
  async function respond(above: Line): Promise<void> {
    const open = chat.value;
    const asked = model.value;
    if (!open || !asked) return;
    const line = newLine({
      parent: above.id,
      role: 'assistant',
      content: '',
      model: asked,
      params: settings.value,
      state: 'partial',
    });
    try {
      const until = (await whole()).indexOf(above) + 1;
      const request = requestFor(asked, settings.value, path.value.slice(0, until));
      path.value = [...path.value.slice(0, until), line];
      await run(open.id, line, request);
    } catch (error) {
      session.failed(error);
    }
  }

  function run(id: string, line: Line, request: ChatRequest): Promise<void> {
    const { parent, role, content, model, params, state } = line;
    const saving = session.history.add(id, { parent, role, content, model, params, state });
    return runs.start(id, line, request, saving);
  }

  /** Answer once more: in the place of an answer that says nothing, else beside it. */
  async function regenerate(line: Line): Promise<void> {
    const at = path.value.indexOf(line);
    const above = path.value[at - 1];
    if (!above || !chat.value) return;
    if (line.error && !line.content && !line.reasoning) await forget(line);
    await respond(above);
  }

  async function forget(line: Line): Promise<void> {
    if (chat.value && line.id !== line.key)
      await session.history.removeMessage(chat.value.id, line.id).catch(() => undefined);
  }

  /** Go on with an answer that was stopped, or that reached its longest. */
  async function proceed(line: Line): Promise<void> {
    const open = chat.value;
    const asked = line.model ?? model.value;
    if (!open || !asked) return;
    const lines = await whole();
    const said = lines.slice(0, lines.indexOf(line) + 1);
    const request = continuing(requestFor(asked, line.params ?? settings.value, said));
    await runs.start(open.id, line, request, Promise.resolve(line));
  }

  /** Look at another branch: the one of a message beside a shown one. */
  async function walk(id: string): Promise<void> {
    const open = chat.value;
    if (!open) return;
    try {
      const page = await session.history.messages(open.id, { leaf: id, limit: PAGE });
      const first = path.value.findIndex((line) => line.id === page.data[0]?.id);
      const kept = first > 0 ? path.value.slice(0, first) : [];
      show([...kept, ...page.data.map(lineFor)], first > 0 ? before.value : page.before);
      const leaf = page.data.at(-1)?.id ?? null;
      chat.value = { ...open, leaf };
      await session.history.change(open.id, { leaf });
    } catch (error) {
      session.failed(error);
    }
  }

  /** Delete a message and all that follows it. */
  async function remove(line: Line): Promise<void> {
    const open = chat.value;
    if (!open) return;
    runs.inChat(open.id).forEach((entry) => entry.run.stop());
    try {
      await session.history.removeMessage(open.id, line.id);
      chat.value = await session.history.chat(open.id);
      const page = await session.history.messages(open.id, { limit: PAGE });
      show(page.data.map(lineFor), page.before);
    } catch (error) {
      session.failed(error);
    }
  }

  function stop(): void {
    running.value.forEach((entry) => entry.run.stop());
  }

  return {
    chat,
    path,
    before,
    loading,
    missing,
    settings,
    model,
    running,
    blank,
    open,
    earlier,
    whole,
    change,
    send,
    edit,
    regenerate,
    proceed,
    walk,
    remove,
    stop,
  };
});
