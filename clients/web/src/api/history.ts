/** Where chats are kept: on the server, or in this tab where the server keeps none. */
import { json, send } from './http';
import type {
  Chat,
  ChatChange,
  Message,
  MessageChange,
  MessagePage,
  NewMessage,
  Page,
  Preset,
} from './types';

export interface ListQuery {
  q?: string;
  limit?: number;
  after?: string | null;
  signal?: AbortSignal;
}

export interface PathQuery {
  leaf?: string | null;
  before?: string | null;
  limit?: number;
}

export interface History {
  chats(query: ListQuery): Promise<Page<Chat>>;
  chat(id: string): Promise<Chat>;
  create(fields: Partial<Pick<Chat, 'title' | 'model' | 'settings'>>): Promise<Chat>;
  change(id: string, change: ChatChange): Promise<Chat>;
  remove(id: string): Promise<void>;
  messages(chat: string, query: PathQuery): Promise<MessagePage>;
  add(chat: string, message: NewMessage): Promise<Message>;
  /** `last`: the page is being closed, and waits for no answer. */
  update(chat: string, id: string, change: MessageChange, last?: boolean): Promise<void>;
  removeMessage(chat: string, id: string): Promise<void>;
  presets(): Promise<Preset[]>;
  putPresets(presets: Preset[]): Promise<Preset[]>;
  export(chat: string, format: 'json' | 'markdown'): Promise<File>;
  exportAll(): Promise<File>;
  import(content: unknown): Promise<number>;
}

function query(fields: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(fields).filter(([, value]) => value != null && value !== '');
  return given.length
    ? '?' + new URLSearchParams(given.map(([name, value]) => [name, String(value)]))
    : '';
}

const chats = '/ui/chats';
const at = (chat: string) => `${chats}/${encodeURIComponent(chat)}`;
const messageAt = (chat: string, id: string) => `${at(chat)}/messages/${encodeURIComponent(id)}`;

export const onServer: History = {
  chats: ({ q, limit, after, signal }) => json(chats + query({ q, limit, after }), { signal }),
  chat: (id) => json(at(id)),
  create: (body) => json(chats, { method: 'POST', body }),
  change: (id, body) => json(at(id), { method: 'PATCH', body }),
  remove: async (id) => void (await send(at(id), { method: 'DELETE' })),
  messages: (chat, { leaf, before, limit }) =>
    json(at(chat) + '/messages' + query({ leaf, before, limit })),
  add: (chat, body) => json(`${at(chat)}/messages`, { method: 'POST', body }),
  update: async (chat, id, body, last) =>
    void (await send(messageAt(chat, id), { method: 'PATCH', body, keepalive: last ?? false })),
  removeMessage: async (chat, id) => void (await send(messageAt(chat, id), { method: 'DELETE' })),
  presets: async () => (await json<{ data: Preset[] }>('/ui/presets')).data,
  putPresets: async (data) =>
    (await json<{ data: Preset[] }>('/ui/presets', { method: 'PUT', body: { data } })).data,
  export: (chat, format) => file(`${at(chat)}/export?format=${format}`),
  exportAll: () => file('/ui/export'),
  import: async (body) =>
    (await json<{ imported: number }>('/ui/import', { method: 'POST', body })).imported,
};

/** A download, under the name that the server gives it. */
async function file(path: string): Promise<File> {
  const response = await send(path);
  const disposition = response.headers.get('content-disposition') ?? '';
  const encoded = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  const plain = /filename="?([^";]+)"?/i.exec(disposition)?.[1];
  const name = encoded ? decodeURIComponent(encoded) : (plain ?? 'corral.json');
  return new File([await response.blob()], name);
}
