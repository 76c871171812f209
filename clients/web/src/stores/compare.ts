/** One prompt, several models, side by side. Nothing of it is kept unless a column becomes a chat. */
import { defineStore } from 'pinia';
import { computed, reactive, ref } from 'vue';
import type { Chat, Model, Settings } from '@/api/types';
import { type Run, answer, newRun } from '@/chat/answering';
import { type Line, newLine, requestFor } from '@/chat/lines';
import { t } from '@/i18n';
import { useChats } from './chats';
import { useModels } from './models';
import { useNotices } from './notices';
import { preferences } from './preferences';
import { useSession } from './session';

export const MOST_COLUMNS = 4;

export interface Column {
  key: number;
  model: string;
  path: Line[];
  run: Run | null;
}

/** Ids of what was made of the same weights as `first`, adapters included; of all if that is one. */
export function stages(models: Model[], first: string | null): string[] {
  const named = (id: string | null) => models.find((model) => model.id === id);
  const weights = (model: Model | undefined) => (named(model?.base ?? null) ?? model)?.root;
  const same = models.filter((model) => weights(model) === weights(named(first)));
  return (same.length > 1 ? same : models).slice(0, MOST_COLUMNS).map((model) => model.id);
}

export const useCompare = defineStore('compare', () => {
  const models = useModels();
  const session = useSession();
  const chats = useChats();
  const notices = useNotices();
  const columns = ref<Column[]>([]);
  const settings = ref<Settings>({});
  const busy = computed(() => columns.value.some((column) => column.run !== null));
  const begun = computed(() => columns.value.some((column) => column.path.length > 0));
  let last = 0;

  function column(model: string): Column {
    return reactive({ key: ++last, model, path: [], run: null });
  }

  /** What is shown first: the last choice, else the stages of the weights that chats begin with. */
  function begin(): void {
    if (columns.value.length) return;
    const known = preferences.compared.filter((id) => models.find(id));
    columns.value = (known.length > 1 ? known : stages(models.chatting, models.first)).map(column);
  }

  function remember(): void {
    preferences.compared = columns.value.map((entry) => entry.model);
  }

  function add(): void {
    const shown = new Set(columns.value.map((entry) => entry.model));
    const next = models.chatting.find((model) => !shown.has(model.id)) ?? models.chatting[0];
    if (next && columns.value.length < MOST_COLUMNS) columns.value.push(column(next.id));
    remember();
  }

  function remove(entry: Column): void {
    entry.run?.stop();
    columns.value = columns.value.filter((other) => other.key !== entry.key);
    remember();
  }

  function choose(entry: Column, model: string): void {
    entry.run?.stop();
    entry.model = model;
    entry.path = [];
    remember();
  }

  async function ask(entry: Column): Promise<void> {
    const asked = entry.path;
    const line = newLine({
      parent: null,
      role: 'assistant',
      content: '',
      model: entry.model,
      params: settings.value,
      state: 'partial',
    });
    entry.path = [...asked, line];
    const { run, signal } = newRun();
    entry.run = run;
    await answer(requestFor(entry.model, settings.value, asked), line, run, signal);
    if (line.error?.code === 'unreachable') void session.knock();
    if (entry.run === run) entry.run = null;
  }

  async function send(content: string): Promise<void> {
    notices.speak(t('say.started'));
    await Promise.all(
      columns.value.map((entry) => {
        entry.path = [...entry.path, newLine({ parent: null, role: 'user', content })];
        return ask(entry);
      }),
    );
    notices.speak(t('say.allFinished'));
  }

  async function retry(entry: Column): Promise<void> {
    entry.path = entry.path.slice(0, -1);
    await ask(entry);
  }

  function stop(): void {
    columns.value.forEach((entry) => entry.run?.stop());
  }

  function clear(): void {
    stop();
    columns.value.forEach((entry) => (entry.path = []));
  }

  /** Keep a column as a chat; its id, or null if that failed. */
  async function keep(entry: Column): Promise<string | null> {
    try {
      const made: Chat = await session.history.create({
        model: entry.model,
        settings: settings.value,
      });
      let parent: string | null = null;
      for (const { role, content, model, params, usage, finish_reason, error } of entry.path) {
        const kept = await session.history.add(made.id, { parent, role, content, model, params });
        if (role === 'assistant')
          await session.history.update(made.id, kept.id, { usage, finish_reason, error });
        parent = kept.id;
      }
      chats.put(await session.history.chat(made.id));
      return made.id;
    } catch (error) {
      session.failed(error);
      return null;
    }
  }

  return {
    columns,
    settings,
    busy,
    begun,
    begin,
    add,
    remove,
    choose,
    send,
    retry,
    stop,
    clear,
    keep,
  };
});
