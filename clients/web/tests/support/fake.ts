/** A server for tests of the page's logic: history in memory, and answers as a test writes them. */
import { vi } from 'vitest';
import { inMemory } from '@/api/memory';
import type { Model, Session } from '@/api/types';

export interface Asked {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: unknown;
}

type Answer = (asked: Asked, signal: AbortSignal | null) => Response | Promise<Response>;

export const session: Session = {
  version: '1',
  needs_key: false,
  signed_in: true,
  admin: 'closed',
  stored: true,
};

export const model: Model = {
  id: 'tiny',
  description: 'A test.',
  aliases: [],
  kind: 'generate',
  template: 'chatml',
  max_model_len: 2048,
  status: 'ready',
  status_detail: null,
  defaults: { temperature: 0.2 },
};

export function reply(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', ...headers },
  });
}

export function refusal(status: number, code: string, headers: Record<string, string> = {}) {
  return reply(
    { error: { message: 'No.', type: 'invalid_request_error', param: null, code } },
    status,
    headers,
  );
}

/** A stream of events; it stays open after them if `open` says so. */
export function stream(events: string[], signal: AbortSignal | null = null, open = false): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      events.forEach((event) => controller.enqueue(encoder.encode(event)));
      signal?.addEventListener('abort', () =>
        controller.error(new DOMException('Aborted', 'AbortError')),
      );
      if (!open) controller.close();
    },
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
}

export function chunk(content: string, tokens: number): string {
  const usage = { prompt_tokens: 9, completion_tokens: tokens, total_tokens: 9 + tokens };
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }], usage })}\n\n`;
}

export function finish(reason = 'stop', usage: object = {}): string {
  const whole = { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11, ...usage };
  const last = { choices: [{ index: 0, delta: {}, finish_reason: reason }], usage: whole };
  return `data: ${JSON.stringify(last)}\n\ndata: [DONE]\n\n`;
}

/** Replaces `fetch`; `answer` may be changed at any time. */
export class Fake {
  readonly asked: Asked[] = [];
  readonly history = inMemory();
  session: Session = { ...session };
  down = false;
  answer: Answer = () => stream([chunk('Hel', 1), chunk('lo', 2), finish()]);
  /** Answers that take the place of the usual ones, by "METHOD /path". */
  readonly instead = new Map<string, Answer>();

  constructor() {
    vi.stubGlobal('fetch', (path: string, init: RequestInit = {}) => this.fetch(path, init));
  }

  get generations(): Asked[] {
    return this.asked.filter((asked) => asked.path === '/v1/chat/completions');
  }

  private async fetch(path: string, init: RequestInit): Promise<Response> {
    const asked: Asked = {
      method: init.method ?? 'GET',
      path,
      headers: { ...(init.headers as Record<string, string>) },
      body: typeof init.body === 'string' ? JSON.parse(init.body) : null,
    };
    this.asked.push(asked);
    await Promise.resolve();
    if (this.down) throw new TypeError('Failed to fetch');
    const instead = this.instead.get(`${asked.method} ${path}`);
    if (instead) return instead(asked, init.signal ?? null);
    if (path === '/v1/chat/completions') return this.answer(asked, init.signal ?? null);
    if (path === '/v1/models') return reply({ data: [model, { ...model, id: 'other' }] });
    if (path === '/ui/session') return reply(this.session);
    try {
      return reply(await this.ui(asked));
    } catch (error) {
      return refusal(404, String(error));
    }
  }

  private async ui({ method, path, body }: Asked): Promise<unknown> {
    const url = new URL(path, 'http://corral');
    const [, , kind, chat = '', , message = ''] = url.pathname.split('/');
    const query = Object.fromEntries(url.searchParams);
    const numbers = query['limit'] ? { limit: Number(query['limit']) } : {};
    const history = this.history;
    if (kind === 'presets')
      return {
        data: method === 'PUT' ? await history.putPresets((body as { data: [] }).data) : await history.presets(),
      };
    const inMessages = url.pathname.includes('/messages');
    switch (`${method} ${inMessages ? 'message' : chat ? 'chat' : 'chats'}`) {
      case 'GET chats':
        return history.chats({ ...query, ...numbers });
      case 'POST chats':
        return history.create(body as object);
      case 'GET chat':
        return history.chat(chat);
      case 'PATCH chat':
        return history.change(chat, body as object);
      case 'DELETE chat':
        return history.remove(chat).then(() => ({}));
      case 'GET message':
        return history.messages(chat, { ...query, ...numbers });
      case 'POST message':
        return history.add(chat, body as Parameters<typeof history.add>[1]);
      case 'PATCH message':
        return history.update(chat, message, body as object).then(() => ({}));
      default:
        return history.removeMessage(chat, message).then(() => ({}));
    }
  }
}

/** Wait until something holds. */
export async function until(condition: () => unknown, what = 'condition'): Promise<void> {
  const end = Date.now() + 3000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
