/** The models of this server, looked at again while something about them is likely to change. */
import { defineStore } from 'pinia';
import { computed, markRaw, ref, shallowRef } from 'vue';
import { models as ask } from '@/api/herd';
import type { Model, Status } from '@/api/types';
import { preferences } from './preferences';
import { useSession } from './session';

const OFTEN_MS = 1500;
const SELDOM_MS = 15_000;
const MOVING: ReadonlySet<Status> = new Set(['loading', 'draining', 'unloading', 'restarting']);

export const useModels = defineStore('models', () => {
  const list = shallowRef<Model[]>([]);
  const loaded = ref(false);
  let tell: () => void = () => undefined;
  /** Resolves when they have been fetched for the first time. */
  const known = markRaw(new Promise<void>((resolve) => (tell = resolve)));
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** How many parts of the page show states right now. */
  let watchers = 0;

  const chatting = computed(() => list.value.filter((model) => model.kind === 'generate'));

  function find(id: string | null): Model | undefined {
    return list.value.find((model) => model.id === id || model.aliases.includes(id ?? ''));
  }

  /** What a new chat begins with: the last choice, else the first that is ready, else the first. */
  const first = computed(() => {
    const chosen = chatting.value.find((model) => model.id === preferences.model);
    const ready = chatting.value.find((model) => model.status === 'ready');
    return (chosen ?? ready ?? chatting.value[0])?.id ?? null;
  });

  async function refresh(): Promise<void> {
    try {
      list.value = await ask();
      loaded.value = true;
      tell();
    } catch (error) {
      useSession().failed(error);
    }
  }

  function schedule(): void {
    clearTimeout(timer);
    const moving = watchers > 0 || list.value.some((model) => MOVING.has(model.status));
    timer = setTimeout(
      () => {
        const session = useSession();
        const idle = document.hidden || !session.reachable || session.locked;
        void (idle ? Promise.resolve() : refresh()).then(schedule);
      },
      moving ? OFTEN_MS : SELDOM_MS,
    );
  }

  async function start(): Promise<void> {
    await refresh();
    schedule();
  }

  /** Look often, until the returned function is called. */
  function watchClosely(): () => void {
    watchers += 1;
    void refresh().then(schedule);
    return () => {
      watchers -= 1;
    };
  }

  return { list, loaded, known, chatting, first, find, refresh, start, watchClosely };
});
