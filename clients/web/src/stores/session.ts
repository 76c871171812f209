/** Who this page is to its server, and whether there is one. */
import { defineStore } from 'pinia';
import { computed, ref, shallowRef } from 'vue';
import { credentials, forget, keep } from '@/api/credentials';
import { session as ask } from '@/api/herd';
import { type History, onServer } from '@/api/history';
import { ApiError, Unreachable } from '@/api/http';
import { inMemory } from '@/api/memory';
import type { Session } from '@/api/types';
import { inWords } from '@/api/words';
import { useNotices } from './notices';

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;

export const useSession = defineStore('session', () => {
  const session = shallowRef<Session | null>(null);
  const reachable = ref(true);
  const history = shallowRef<History>(onServer);
  const locked = computed(() => session.value !== null && !session.value.signed_in);
  const whenBack = new Set<() => void>();
  let knocking = false;

  async function load(): Promise<void> {
    const answer = await ask();
    // Chats that live in this tab alone must outlive a restart of the server.
    if (!answer.stored && history.value === onServer) history.value = inMemory();
    else if (answer.stored) history.value = onServer;
    session.value = answer;
    reachable.value = true;
  }

  /** Ask again and again until the server answers; then whatever waits for it is called. */
  async function knock(): Promise<void> {
    if (knocking) return;
    knocking = true;
    reachable.value = false;
    let pause = FIRST_PAUSE_MS;
    while (!reachable.value) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 1.6, LONGEST_PAUSE_MS);
      await load().catch(() => undefined);
    }
    knocking = false;
    whenBack.forEach((call) => call());
  }

  async function start(): Promise<void> {
    try {
      await load();
    } catch (error) {
      if (error instanceof Unreachable) void knock();
      else useNotices().show(inWords(error), true);
    }
  }

  /** Take what went wrong for what it is: lost, signed out, or something to tell people. */
  function failed(error: unknown): void {
    if (error instanceof Unreachable) void knock();
    else if (error instanceof ApiError && error.body.code === 'no_session') void start();
    else if (error instanceof ApiError && error.status === 401 && session.value) {
      session.value = { ...session.value, needs_key: true, signed_in: false };
    } else if (!(error instanceof DOMException && error.name === 'AbortError')) {
      useNotices().show(inWords(error), true);
    }
  }

  /** Whether the server knows the key; it is kept then. */
  async function signIn(key: string, remember: boolean): Promise<boolean> {
    const before = credentials.key;
    credentials.key = key;
    try {
      await load();
    } catch (error) {
      credentials.key = before;
      throw error;
    }
    if (locked.value) {
      credentials.key = before;
      return false;
    }
    keep('key', key, remember);
    whenBack.forEach((call) => call());
    return true;
  }

  function signOut(): void {
    forget('key');
    forget('admin');
    if (session.value) session.value = { ...session.value, signed_in: false };
  }

  return {
    session,
    reachable,
    locked,
    history,
    whenBack,
    start,
    failed,
    signIn,
    signOut,
    knock,
  };
});
