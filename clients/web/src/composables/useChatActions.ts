/** What can be done to a chat from wherever it is shown. */
import { useRouter } from 'vue-router';
import type { Chat } from '@/api/types';
import { t } from '@/i18n';
import { useChat } from '@/stores/chat';
import { useChats } from '@/stores/chats';
import { useRuns } from '@/stores/runs';
import { useSession } from '@/stores/session';
import { download } from './clipboard';
import { confirm } from './useConfirm';

export function useChatActions() {
  const router = useRouter();
  const chats = useChats();
  const open = useChat();
  const session = useSession();
  const runs = useRuns();

  async function change(chat: Chat, fields: { title?: string; pinned?: boolean }): Promise<void> {
    const changed = await chats.change(chat.id, fields);
    if (changed && open.chat?.id === chat.id) {
      open.chat = { ...open.chat, title: changed.title, pinned: changed.pinned };
    }
  }

  async function remove(chat: Chat): Promise<void> {
    const title = chat.title || t('chat.untitled');
    if (!(await confirm(t('remove.title'), t('remove.text', { title }), t('remove.action')))) return;
    runs.inChat(chat.id).forEach((entry) => entry.run.stop());
    if ((await chats.remove(chat.id)) && open.chat?.id === chat.id) await router.push('/');
  }

  async function save(chat: Chat, format: 'json' | 'markdown'): Promise<void> {
    try {
      download(await session.history.export(chat.id, format));
    } catch (error) {
      session.failed(error);
    }
  }

  return {
    rename: (chat: Chat, title: string) => change(chat, { title }),
    pin: (chat: Chat) => change(chat, { pinned: !chat.pinned }),
    remove,
    save,
  };
}
