/** Short remarks that come and go, and what screen readers are told. */
import { defineStore } from 'pinia';
import { ref } from 'vue';

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

const SHOWN_MS = 4000;
const SHOWN_BAD_MS = 9000;

export const useNotices = defineStore('notices', () => {
  const list = ref<Notice[]>([]);
  /** Read out by screen readers, and shown nowhere. */
  const spoken = ref('');
  let last = 0;

  function drop(id: number): void {
    list.value = list.value.filter((notice) => notice.id !== id);
  }

  function show(text: string, bad = false): void {
    const id = ++last;
    list.value = [...list.value.filter((notice) => notice.text !== text), { id, text, bad }];
    setTimeout(() => drop(id), bad ? SHOWN_BAD_MS : SHOWN_MS);
  }

  function speak(text: string): void {
    // The same words twice are a change only if something stands between them.
    spoken.value = spoken.value === text ? `${text}\u00a0` : text;
  }

  return { list, spoken, show, drop, speak };
});
