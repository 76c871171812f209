import { beforeEach, describe, expect, it } from 'vitest';
import { credentials, forget, keep } from '@/api/credentials';
import { type Piece, generate } from '@/api/generate';
import { ApiError, CutOff, Unreachable, json, send } from '@/api/http';
import { events } from '@/api/sse';
import { explain, bodyOf, inWords } from '@/api/words';
import { Fake, chunk, finish, refusal, reply, stream } from './support/fake';

let fake: Fake;

beforeEach(() => {
  forget('key');
  forget('admin');
  fake = new Fake();
});

async function all(request = { model: 'tiny', messages: [] }): Promise<Piece[]> {
  const found: Piece[] = [];
  for await (const piece of generate(request, new AbortController().signal)) found.push(piece);
  return found;
}

function packets(...parts: (string | Uint8Array)[]): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      parts.forEach((part) =>
        controller.enqueue(typeof part === 'string' ? encoder.encode(part) : part),
      );
      controller.close();
    },
  });
  return new Response(body);
}

async function read(response: Response): Promise<string[]> {
  const found: string[] = [];
  for await (const event of events(response)) found.push(`${event.name}:${event.data}`);
  return found;
}

describe('a stream of events', () => {
  it('is put together from packets, wherever they are cut', async () => {
    const bytes = new TextEncoder().encode('data: 你好🦙\n\n: a comment\n\nevent: x\r\ndata: 1\r\n\r\n');
    const single = [...bytes].map((byte) => new Uint8Array([byte]));
    expect(await read(packets(...single))).toEqual(['message:你好🦙', 'x:1']);
  });

  it('is closed when its reader leaves', async () => {
    let cancelled = false;
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode('data: 1\n\n')),
      cancel: () => void (cancelled = true),
    });
    for await (const event of events(new Response(body))) {
      expect(event.data).toBe('1');
      break;
    }
    expect(cancelled).toBe(true);
  });
});

describe('an answer', () => {
  it('comes in pieces', async () => {
    const progress = { object: 'corral.progress', model: 'tiny', status: 'loading', detail: 'x', waiting: 1 };
    const thought = { choices: [{ delta: { reasoning: 'Hm' }, finish_reason: null }], usage: null };
    fake.answer = () =>
      stream([
        `event: corral.progress\ndata: ${JSON.stringify(progress)}\n\n`,
        `data: ${JSON.stringify(thought)}\n\n`,
        chunk('Hi', 1),
        finish('length'),
      ]);
    const kinds = (await all()).map((piece) => piece.kind);
    expect(kinds).toEqual(['progress', 'reasoning', 'text', 'usage', 'finish', 'usage']);
    expect(fake.generations[0]?.body).toMatchObject({
      stream: true,
      stream_options: { include_usage: true, include_progress: true, continuous_usage_stats: true },
    });
  });

  it('fails with what the server says in the middle of it', async () => {
    const error = { message: 'The engine died.', type: 'server_error', param: null, code: 'engine_died' };
    fake.answer = () => stream([chunk('Hi', 1), `data: ${JSON.stringify({ error })}\n\n`]);
    await expect(all()).rejects.toMatchObject({ body: error });
  });

  it('is cut off where its end is missing', async () => {
    fake.answer = () => stream([chunk('Hi', 1)]);
    await expect(all()).rejects.toBeInstanceOf(CutOff);
  });

  it('takes text about errors for text', async () => {
    fake.answer = () => stream([chunk('{"error": {"message": "x"}}', 1), finish()]);
    expect((await all())[0]).toEqual({ kind: 'text', text: '{"error": {"message": "x"}}' });
  });
});

describe('a refusal', () => {
  it('tells status, code and when to come again', async () => {
    fake.answer = () => refusal(429, 'server_overloaded', { 'retry-after': '7' });
    const error = await all().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 429, retryAfter: 7, body: { code: 'server_overloaded' } });
    expect(inWords(error)).toBe('The server is busy. Try again in a moment. No.');
  });

  it('of a proxy is its status', async () => {
    fake.instead.set('GET /x', () => new Response('<html>long page', { status: 502, statusText: 'Bad Gateway' }));
    await expect(send('/x')).rejects.toMatchObject({ status: 502, message: '502 Bad Gateway' });
  });

  it('without a server is another thing', async () => {
    fake.down = true;
    const error = await send('/v1/models').catch((error: unknown) => error);
    expect(error).toBeInstanceOf(Unreachable);
    expect(explain(bodyOf(error))).toEqual({ text: 'The server cannot be reached.', detail: '' });
  });

  it('is not what a person who stops gets', async () => {
    const controller = new AbortController();
    controller.abort();
    fake.instead.set('GET /x', (_, signal) => {
      signal?.throwIfAborted();
      return reply({});
    });
    await expect(json('/x', { signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('keys', () => {
  it('go into a header, never into an address', async () => {
    keep('key', 'sk-secret', false);
    await send('/v1/models');
    keep('admin', 'ak-secret', false);
    await send('/v1/models', { admin: true });
    expect(fake.asked.map((asked) => asked.headers['Authorization'])).toEqual([
      'Bearer sk-secret',
      'Bearer ak-secret',
    ]);
    expect(JSON.stringify(fake.asked.map((asked) => [asked.path, asked.body]))).not.toContain('secret');
  });

  it('are kept for the tab, or on the device when asked', () => {
    keep('key', 'one', false);
    expect([sessionStorage.getItem('corral.key'), localStorage.getItem('corral.key')]).toEqual(['one', null]);
    keep('key', 'two', true);
    expect([sessionStorage.getItem('corral.key'), localStorage.getItem('corral.key')]).toEqual([null, 'two']);
    forget('key');
    expect([credentials.key, localStorage.getItem('corral.key')]).toEqual(['', null]);
  });
});
