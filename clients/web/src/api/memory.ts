/** History that lasts as long as the tab, for servers that keep none. */
import type { History } from './history';
import { ApiError } from './http';
import type { Chat, Message, NewMessage, Preset } from './types';

type Node = Omit<Message, 'siblings'>;

const TITLE_LENGTH = 60;

/** The title that a first message gives to its chat. */
export function titleOf(content: string): string {
  const line = content.trim().split(/\r?\n/, 1)[0] ?? '';
  return [...line].slice(0, TITLE_LENGTH).join('').trim();
}

export function inMemory(): History {
  const chats = new Map<string, Chat>();
  const nodes = new Map<string, Map<string, Node>>();
  let presets: Preset[] = [];
  let number = 0;
  const next = (prefix: string) => `${prefix}_${++number}`;
  const now = () => Date.now() / 1000;

  const find = (id: string): Chat => {
    const chat = chats.get(id);
    if (!chat) throw missing('chat', id);
    return chat;
  };
  const tree = (id: string): Map<string, Node> => {
    find(id);
    return nodes.get(id) as Map<string, Node>;
  };
  const childrenOf = (chat: string, parent: string | null) =>
    [...tree(chat).values()].filter((node) => node.parent === parent);
  const shown = (chat: string, node: Node): Message => ({
    ...node,
    siblings: childrenOf(chat, node.parent).map((sibling) => sibling.id),
  });
  const tip = (chat: string, start: string): string => {
    const last = childrenOf(chat, start).at(-1);
    return last ? tip(chat, last.id) : start;
  };
  const newest = (chat: Chat) => {
    const root = childrenOf(chat.id, null).at(-1);
    return root ? tip(chat.id, root.id) : null;
  };
  const touch = (chat: Chat) => {
    chat.updated = now();
    chat.messages = tree(chat.id).size;
    return { ...chat };
  };

  return {
    async chats({ q, limit = 50, after }) {
      const wanted = q?.toLowerCase() ?? '';
      const found = [...chats.values()]
        .filter((chat) => !wanted || textOf(chat, tree(chat.id)).toLowerCase().includes(wanted))
        .sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.updated - a.updated);
      const begin = after ? Number(after) : 0;
      const data = found.slice(begin, begin + limit).map((chat) => ({ ...chat }));
      const more = begin + limit < found.length;
      return { data, next: more ? String(begin + limit) : null };
    },
    async chat(id) {
      return { ...find(id) };
    },
    async create(fields) {
      const chat: Chat = {
        id: next('chat'),
        title: fields.title ?? '',
        pinned: false,
        model: fields.model ?? null,
        settings: fields.settings ?? {},
        leaf: null,
        created: now(),
        updated: now(),
        messages: 0,
      };
      chats.set(chat.id, chat);
      nodes.set(chat.id, new Map());
      return { ...chat };
    },
    async change(id, change) {
      return { ...Object.assign(find(id), change) };
    },
    async remove(id) {
      find(id);
      chats.delete(id);
      nodes.delete(id);
    },
    async messages(id, { leaf, before, limit = 100 }) {
      const chat = find(id);
      const all = tree(id);
      let at: string | null;
      if (before) at = all.get(before)?.parent ?? null;
      else at = leaf ? tip(id, leaf) : chat.leaf;
      const data: Message[] = [];
      while (at !== null && data.length < limit) {
        const node = all.get(at);
        if (!node) throw missing('message', at);
        data.unshift(shown(id, node));
        at = node.parent;
      }
      return { data, before: at === null ? null : (data[0]?.id ?? null) };
    },
    async add(id, message) {
      const chat = find(id);
      const node = complete(next('msg'), now(), message);
      tree(id).set(node.id, node);
      chat.leaf = node.id;
      if (!chat.title && node.role === 'user') chat.title = titleOf(node.content);
      touch(chat);
      return shown(id, node);
    },
    async update(id, message, change) {
      const node = tree(id).get(message);
      if (!node) throw missing('message', message);
      Object.assign(node, change);
      touch(find(id));
    },
    async removeMessage(id, message) {
      const chat = find(id);
      const node = tree(id).get(message);
      if (!node) throw missing('message', message);
      const drop = (at: string) => {
        childrenOf(id, at).forEach((child) => drop(child.id));
        tree(id).delete(at);
      };
      drop(message);
      if (chat.leaf !== null && !tree(id).has(chat.leaf))
        chat.leaf = node.parent === null ? newest(chat) : tip(id, node.parent);
      touch(chat);
    },
    async presets() {
      return presets;
    },
    async putPresets(changed) {
      return (presets = changed);
    },
    async export(id, format) {
      const chat = find(id);
      const messages = [...tree(id).values()];
      const name = `${chat.title || 'chat'}.${format === 'json' ? 'json' : 'md'}`;
      if (format === 'json') return new File([exported([{ ...chat, messages }])], name);
      const parts = messages.map((node) => `**${node.role}**\n\n${node.content}\n`);
      return new File([`# ${chat.title}\n\n${parts.join('\n')}`], name);
    },
    async exportAll() {
      const all = [...chats.values()].map((chat) => ({
        ...chat,
        messages: [...tree(chat.id).values()],
      }));
      return new File([exported(all)], 'corral-chats.json');
    },
    async import() {
      throw new ApiError(501, { message: 'This server keeps no history.', type: 'server_error' });
    },
  };
}

/** The form of the server's exports, so that a server that keeps history can take them. */
function exported(chats: object[]): string {
  return JSON.stringify({ format: 'corral-chats', version: 1, chats });
}

function complete(id: string, created: number, message: NewMessage): Node {
  return {
    reasoning: '',
    model: null,
    params: null,
    usage: null,
    finish_reason: null,
    error: null,
    state: 'whole',
    ...message,
    id,
    created,
  };
}

function textOf(chat: Chat, messages: Map<string, Node>): string {
  return [chat.title, ...[...messages.values()].map((node) => node.content)].join('\n');
}

function missing(what: string, id: string): ApiError {
  return new ApiError(404, { message: `No ${what} '${id}'.`, type: 'invalid_request_error' });
}
