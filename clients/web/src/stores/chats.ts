/** The list of chats beside the open one. */
import { defineStore } from 'pinia';
import { computed, ref, shallowRef } from 'vue';
import type { Chat, ChatChange } from '@/api/types';
import { useSession } from './session';

const PAGE = 50;

/** Pinned first, then the ones changed last: the server's order. */
export function inOrder(chats: Chat[]): Chat[] {
  return [...chats].sort(
    (a, b) => Number(b.pinned) - Number(a.pinned) || b.updated - a.updated,
  );
}

export const useChats = defineStore('chats', () => {
  const session = useSession();
  const list = shallowRef<Chat[]>([]);
  const query = ref('');
  const loading = ref(false);
  const loaded = ref(false);
  const next = ref<string | null>(null);
  const complete = computed(() => loaded.value && next.value === null);
  let asked: AbortController | null = null;

  async function load(more = false): Promise<void> {
    asked?.abort();
    const asking = (asked = new AbortController());
    loading.value = true;
    try {
      const page = await session.history.chats({
        q: query.value,
        limit: PAGE,
        after: more ? next.value : null,
        signal: asking.signal,
      });
      if (asking.signal.aborted) return;
      const known = more ? new Map(list.value.map((chat) => [chat.id, chat])) : new Map();
      page.data.forEach((chat) => known.set(chat.id, chat));
      list.value = [...known.values()];
      next.value = page.next;
      loaded.value = true;
    } catch (error) {
      if (!asking.signal.aborted) session.failed(error);
    } finally {
      if (asked === asking) loading.value = false;
    }
  }

  async function more(): Promise<void> {
    if (!loading.value && next.value !== null) await load(true);
  }

  /** A chat is new or has changed. */
  function put(chat: Chat): void {
    const known = list.value.some((other) => other.id === chat.id);
    if (!known && query.value) return;
    list.value = inOrder([...list.value.filter((other) => other.id !== chat.id), chat]);
  }

  async function change(id: string, fields: ChatChange): Promise<Chat | null> {
    try {
      const chat = await session.history.change(id, fields);
      put(chat);
      return chat;
    } catch (error) {
      session.failed(error);
      return null;
    }
  }

  async function remove(id: string): Promise<boolean> {
    try {
      await session.history.remove(id);
    } catch (error) {
      session.failed(error);
      return false;
    }
    list.value = list.value.filter((chat) => chat.id !== id);
    return true;
  }

  return { list, query, loading, loaded, complete, load, more, put, change, remove };
});
