import { month, t } from '@/i18n';
import type { Chat } from '@/api/types';

export interface Group {
  name: string;
  chats: Chat[];
}

const DAY_S = 86_400;

/** Chats, in the order given, under headings of when they were last changed. */
export function grouped(chats: Chat[], now: Date): Group[] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime() / 1000;
  const groups: Group[] = [];
  for (const chat of chats) {
    const name = headingOf(chat, midnight);
    const last = groups.at(-1);
    if (last?.name === name) last.chats.push(chat);
    else groups.push({ name, chats: [chat] });
  }
  return groups;
}

function headingOf(chat: Chat, midnight: number): string {
  if (chat.pinned) return t('list.pinned');
  if (chat.updated >= midnight) return t('list.today');
  if (chat.updated >= midnight - DAY_S) return t('list.yesterday');
  if (chat.updated >= midnight - 7 * DAY_S) return t('list.week');
  if (chat.updated >= midnight - 30 * DAY_S) return t('list.days30');
  return month(chat.updated);
}
