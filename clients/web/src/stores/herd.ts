/** What operators see: every engine, live, for who may. */
import { defineStore } from 'pinia';
import { computed, ref, shallowRef } from 'vue';
import { credentials, forget, keep } from '@/api/credentials';
import { type Action, type HerdState, act, watch } from '@/api/herd';
import { ApiError } from '@/api/http';
import { useModels } from './models';
import { useSession } from './session';

const PAUSE_MS = 2000;

export const useHerd = defineStore('herd', () => {
  const session = useSession();
  const models = useModels();
  const state = shallowRef<HerdState | null>(null);
  const answer = ref<'denied' | 'closed' | null>(null);
  /** Why the server shows nothing of its engines: it wants an admin key, or has no admin API.
   *  The session says which of the two it is, and may come later than the refusal. */
  const refused = computed<'key' | 'closed' | null>(() => {
    if (answer.value !== 'denied') return answer.value;
    if (session.session === null) return null;
    return session.session.admin === 'key' ? 'key' : 'closed';
  });
  const wrongKey = ref(false);
  const engines = computed(() => state.value?.models.data ?? []);
  const devices = computed(() => state.value?.memory.devices ?? []);
  let watching: AbortController | null = null;

  /** Follow the herd until `leave` is called. */
  async function follow(): Promise<void> {
    leave();
    const mine = (watching = new AbortController());
    answer.value = null;
    wrongKey.value = false;
    while (!mine.signal.aborted && answer.value === null) {
      try {
        for await (const news of watch(mine.signal)) {
          state.value = news;
          void models.refresh();
        }
      } catch (error) {
        if (mine.signal.aborted) return;
        handle(error);
      }
      if (answer.value === null) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  function handle(error: unknown): void {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      state.value = null;
      answer.value = 'denied';
      // A key that was sent and is not taken; a person is told, and asked for another.
      wrongKey.value = credentials.admin !== '';
      if (error.status === 401) forget('admin');
    } else if (error instanceof ApiError && error.status === 404) {
      answer.value = 'closed';
    } else {
      session.failed(error);
    }
  }

  function leave(): void {
    watching?.abort();
    watching = null;
  }

  async function signIn(key: string, remember: boolean): Promise<void> {
    keep('admin', key, remember);
    await follow();
  }

  async function tell(model: string, action: Action): Promise<void> {
    try {
      await act(model, action);
    } catch (error) {
      session.failed(error);
    }
  }

  return { engines, devices, state, refused, wrongKey, follow, leave, signIn, tell };
});
