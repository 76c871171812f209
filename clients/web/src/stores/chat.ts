/** The open chat: its path from the first message to the leaf. What is said in it: `talk`. */
import { defineStore } from 'pinia';
import { computed, ref, shallowRef } from 'vue';
import { ApiError } from '@/api/http';
import type { Chat, Message, Settings } from '@/api/types';
import { type Line, lineOf } from '@/chat/lines';
import { t } from '@/i18n';
import { useChats } from './chats';
import { useModels } from './models';
import { preferences } from './preferences';
import { useRuns } from './runs';
import { useSession } from './session';

const PAGE = 100;
// Tabs save what they write a little more often.
const LOOK_AGAIN_MS = 2500;

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
  /** Which of the chats that were opened one after the other this is. */
  let visit = 0;
  /** Of a chat that is not there yet. */
  const chosen = ref<string | null>(null);
  const drafted = ref<Settings>({});

  const settings = computed(() => chat.value?.settings ?? drafted.value);
  const model = computed(() => chat.value?.model ?? chosen.value ?? models.first);
  const running = computed(() =>
    runs.inChat(chat.value?.id).filter(({ line }) => path.value.includes(line)),
  );

  function blank(): void {
    visit += 1;
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
      void followElsewhere(id);
    } catch (error) {
      if (wanted !== id) return;
      missing.value = error instanceof ApiError && error.status === 404;
      if (!missing.value) session.failed(error);
    }
    loading.value = false;
  }

  /** An unfinished last answer may be under way in another tab: show how it grows, if it does. */
  async function followElsewhere(id: string): Promise<void> {
    const line = path.value.at(-1);
    if (line?.state !== 'partial' || line.error || runs.of(line)) return;
    const shown = () => chat.value?.id === id && path.value.at(-1) === line;
    line.elsewhere = true;
    for (let grown = true; grown && line.state === 'partial'; ) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      if (!shown()) break;
      const page = await session.history.messages(id, { limit: 1 }).catch(() => null);
      const now = page?.data[0];
      if (!now || now.id !== line.id || !shown() || runs.of(line)) break;
      grown = now.content !== line.content || now.reasoning !== line.reasoning;
      Object.assign(line, now);
    }
    line.elsewhere = false;
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

  /** The open chat; a new one where there is none yet. */
  async function ensure(): Promise<string> {
    if (!model.value) throw new Error(t('model.none'));
    if (chat.value) return chat.value.id;
    const mine = visit;
    const made = await session.history.create({ model: model.value, settings: drafted.value });
    // Another may have been opened meanwhile.
    if (visit === mine) chat.value = made;
    return made.id;
  }

  /** Something was said in a chat: it is its leaf, and a first message gives it a title. */
  async function said(id: string, leaf: string): Promise<void> {
    let found = chat.value?.id === id ? chat.value : null;
    if (!found?.title) found = await session.history.chat(id);
    found = { ...found, leaf, updated: Date.now() / 1000 };
    chats.put(found);
    if (chat.value?.id === id) chat.value = found;
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
    change,
    ensure,
    said,
    walk,
    remove,
  };
});
