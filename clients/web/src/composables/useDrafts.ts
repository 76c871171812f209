/** What has been typed and not sent, for each chat of this tab. */
import { type Ref, ref, watch } from 'vue';

const nameOf = (chat: string | null) => `corral.draft.${chat ?? 'new'}`;

export function useDraft(chat: Ref<string | null>): Ref<string> {
  const text = ref('');
  watch(
    chat,
    (id) => {
      text.value = read(nameOf(id));
    },
    { immediate: true },
  );
  watch(text, (value) => write(nameOf(chat.value), value));
  return text;
}

function read(name: string): string {
  try {
    return sessionStorage.getItem(name) ?? '';
  } catch {
    return '';
  }
}

function write(name: string, value: string): void {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    // storage is forbidden: a draft lives as long as its chat is shown
  }
}
