import { createPinia, setActivePinia } from 'pinia';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ChatRequest, Message } from '@/api/types';
import { useChat } from '@/stores/chat';
import { useChats } from '@/stores/chats';
import { useModels } from '@/stores/models';
import { useNotices } from '@/stores/notices';
import { useRuns } from '@/stores/runs';
import { useSession } from '@/stores/session';
import { useTalk } from '@/stores/talk';
import { Fake, chunk, finish, refusal, reply, stream, until } from './support/fake';

let fake: Fake;
let chat: ReturnType<typeof useChat>;
let talk: ReturnType<typeof useTalk>;

beforeEach(async () => {
  setActivePinia(createPinia());
  fake = new Fake();
  chat = useChat();
  talk = useTalk();
  await useSession().start();
  await useModels().refresh();
});

const quiet = () => until(() => useRuns().entries.size === 0 && chat.running.length === 0);

async function say(text: string): Promise<void> {
  expect(await talk.send(text)).toBe(true);
  await until(() => chat.path.at(-1)?.role === 'assistant');
  await quiet();
  await until(async () => (await stored()).at(-1)?.state === 'whole');
}

const shown = () => chat.path.map(({ role, content }) => `${role}: ${content}`);
const stored = async () => (await fake.history.messages(chat.chat?.id ?? '', {})).data;
const asked = () => fake.generations.at(-1)?.body as ChatRequest;
const says = (text: string) => (fake.answer = () => stream([chunk(text, 1), finish()]));

describe('a chat', () => {
  it('comes into being with its first message, and is kept', async () => {
    await say('What is it?\nTell me.');
    expect(shown()).toEqual(['user: What is it?\nTell me.', 'assistant: Hello']);
    expect(chat.chat).toMatchObject({ title: 'What is it?', model: 'tiny' });
    expect(useChats().list.map((entry) => entry.title)).toEqual(['What is it?']);
    await until(async () => (await stored())[1]?.content === 'Hello');
    expect((await stored())[1]).toMatchObject({
      content: 'Hello',
      model: 'tiny',
      state: 'whole',
      finish_reason: 'stop',
      usage: { completion_tokens: 2 },
    });
  });

  it('is sent whole, with what is set', async () => {
    await chat.change({ settings: { temperature: 0.7, seed: 3, system: 'Be brief.' } });
    await say('a');
    await say('b');
    expect(asked()).toMatchObject({ model: 'tiny', temperature: 0.7, seed: 3 });
    expect(asked().messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'Hello' },
      { role: 'user', content: 'b' },
    ]);
    expect((await stored()).at(-1)?.params).toEqual({ temperature: 0.7, seed: 3, system: 'Be brief.' });
  });

  it('branches where a message is edited, and nothing is lost', async () => {
    await say('a');
    await say('b');
    const first = chat.path[0]!;
    says('Other');
    await talk.edit(first, 'A');
    await until(() => chat.path.length === 2);
    await quiet();
    expect(shown()).toEqual(['user: A', 'assistant: Other']);
    expect(chat.path[0]?.siblings).toHaveLength(2);
    await chat.walk(first.id);
    expect(shown()).toEqual(['user: a', 'assistant: Hello', 'user: b', 'assistant: Hello']);
    expect((await fake.history.chat(chat.chat!.id)).leaf).toBe(chat.path.at(-1)?.id);
  });

  it('answers once more beside the first answer', async () => {
    await say('a');
    const before = chat.path[1]!;
    says('Second');
    await talk.regenerate(before);
    await quiet();
    expect(shown()).toEqual(['user: a', 'assistant: Second']);
    await until(() => chat.path[1]?.siblings.length === 2);
    await chat.walk(before.id);
    expect(shown()).toEqual(['user: a', 'assistant: Hello']);
  });

  it('takes another answer from a person, without asking the model', async () => {
    await say('a');
    await talk.edit(chat.path[1]!, 'Mine');
    expect(shown()).toEqual(['user: a', 'assistant: Mine']);
    expect(fake.generations).toHaveLength(1);
  });

  it('replaces an answer that failed before its first word', async () => {
    fake.answer = () => refusal(429, 'server_overloaded');
    await talk.send('a');
    await until(() => chat.path[1]?.error);
    await until(() => useRuns().entries.size === 0);
    says('Now');
    await talk.regenerate(chat.path[1]!);
    await quiet();
    expect(shown()).toEqual(['user: a', 'assistant: Now']);
    await until(() => chat.path[1]?.siblings.length === 1);
  });

  it('is stopped, and gone on with', async () => {
    fake.answer = (_, signal) => stream([chunk('One', 1)], signal, true);
    await talk.send('a');
    await until(() => chat.running[0]?.run.phase === 'writing');
    talk.stop();
    await quiet();
    expect(chat.path[1]).toMatchObject({ content: 'One', finish_reason: 'stopped' });
    says(', two');
    await talk.proceed(chat.path[1]!);
    expect(shown()[1]).toBe('assistant: One, two');
    expect(asked()).toMatchObject({ continue_final_message: true, add_generation_prompt: false });
    expect(asked().messages.at(-1)).toEqual({ role: 'assistant', content: 'One' });
    await until(async () => (await stored())[1]?.content === 'One, two');
  });

  it('goes on answering while another is looked at', async () => {
    let open: ((text: string) => void) | null = null;
    fake.answer = () => {
      const body = new ReadableStream({
        start(controller) {
          open = (text) => {
            controller.enqueue(new TextEncoder().encode(text));
            if (text.includes('[DONE]')) controller.close();
          };
        },
      });
      return new Response(body);
    };
    await talk.send('a');
    await until(() => open);
    open!(chunk('Be', 1));
    const { id } = chat.chat!;
    await until(() => chat.path[1]?.id.startsWith('msg'));
    chat.blank();
    open!(chunk('gun', 2));
    await chat.open(id);
    await until(() => chat.path[1]?.content === 'Begun');
    expect(chat.running).toHaveLength(1);
    open!(finish());
    await quiet();
    expect(chat.path[1]?.state).toBe('whole');
  });

  it('keeps what is said in quick succession in order', async () => {
    await say('a');
    const edited = talk.edit(chat.path[1]!, 'Mine');
    const sent = talk.send('b');
    expect(await Promise.all([edited, sent])).toEqual([true, true]);
    await quiet();
    await until(async () => (await stored()).length === 4);
    expect((await stored()).map((message) => message.content)).toEqual(['a', 'Mine', 'b', 'Hello']);
  });

  it('that is left at once is answered all the same', async () => {
    const sent = talk.send('a');
    chat.blank();
    expect(await sent).toBe(true);
    await until(() => fake.generations.length === 1);
    await quiet();
    const [kept] = (await fake.history.chats({})).data;
    const messages = async () => (await fake.history.messages(kept!.id, {})).data;
    await until(async () => (await messages())[1]?.content === 'Hello');
    expect([chat.chat, chat.path]).toEqual([null, []]);
  });

  it('shows an answer that another tab writes', async () => {
    vi.useFakeTimers();
    const { id } = await fake.history.create({ model: 'tiny' });
    const question = await fake.history.add(id, { parent: null, role: 'user', content: 'a' });
    const answer = { parent: question.id, role: 'assistant' as const, content: 'Ha', state: 'partial' as const };
    const { id: written } = await fake.history.add(id, answer);
    await chat.open(id);
    expect(chat.path[1]).toMatchObject({ content: 'Ha', elsewhere: true });
    await fake.history.update(id, written, { content: 'Half' });
    await vi.advanceTimersByTimeAsync(3000);
    expect(chat.path[1]).toMatchObject({ content: 'Half', elsewhere: true });
    await vi.advanceTimersByTimeAsync(3000);
    expect(chat.path[1]).toMatchObject({ content: 'Half', elsewhere: false });
    vi.useRealTimers();
  });

  it('keeps an answer as it ends, however slow the server is with what came before', async () => {
    vi.useFakeTimers();
    fake.answer = (_, signal) => stream([chunk('Hel', 1)], signal, true);
    await talk.send('a');
    await vi.advanceTimersByTimeAsync(100);
    const place = `PATCH /ui/chats/${chat.chat?.id}/messages/${chat.path[1]?.id}`;
    const saves = () => fake.asked.filter(({ method, path }) => `${method} ${path}` === place);
    let go = (): void => undefined;
    const slow = new Promise<void>((resolve) => (go = resolve));
    fake.instead.set(place, () => slow.then(() => reply({})));
    await vi.advanceTimersByTimeAsync(5000);
    talk.stop();
    await vi.advanceTimersByTimeAsync(1000);
    expect(saves().map(({ body }) => (body as Message).state)).toEqual(['partial']);
    go();
    await vi.advanceTimersByTimeAsync(100);
    expect(saves().map(({ body }) => (body as Message).state)).toEqual(['partial', 'whole']);
    vi.useRealTimers();
  });

  it('gives the text back when it could not be kept', async () => {
    fake.down = true;
    expect(await talk.send('a')).toBe(false);
    expect(chat.path).toEqual([]);
    expect(useSession().reachable).toBe(false);
  });

  it('forgets a message and what follows', async () => {
    await say('a');
    await say('b');
    await chat.remove(chat.path[2]!);
    expect(shown()).toEqual(['user: a', 'assistant: Hello']);
    expect(await stored()).toHaveLength(2);
  });

  it('is fetched in pages, and sent whole all the same', async () => {
    const { id } = await fake.history.create({ model: 'tiny' });
    let parent: string | null = null;
    for (let at = 0; at < 250; at++) {
      const role = at % 2 ? ('assistant' as const) : ('user' as const);
      parent = (await fake.history.add(id, { parent, role, content: `m${at}` })).id;
    }
    await chat.open(id);
    expect(chat.path).toHaveLength(100);
    expect(chat.path[0]?.content).toBe('m150');
    await chat.earlier();
    expect(chat.path[0]?.content).toBe('m50');
    await say('last');
    expect(asked().messages).toHaveLength(251);
    expect(asked().messages[0]?.content).toBe('m0');
  });

  it('that is not there is said to be missing', async () => {
    await chat.open('chat_404');
    expect(chat.missing).toBe(true);
    expect(useNotices().list).toEqual([]);
  });
});

describe('a session', () => {
  it('that ends asks for the key', async () => {
    fake.instead.set('POST /ui/chats', () => refusal(401, 'invalid_api_key'));
    await talk.send('a');
    expect(useSession().locked).toBe(true);
  });

  it('is let in with a known key alone', async () => {
    const session = useSession();
    fake.session = { ...fake.session, needs_key: true, signed_in: false };
    expect(await session.signIn('wrong', false)).toBe(false);
    fake.session = { ...fake.session, signed_in: true };
    expect(await session.signIn('right', false)).toBe(true);
    expect(sessionStorage.getItem('corral.key')).toBe('right');
    session.signOut();
    expect(sessionStorage.getItem('corral.key')).toBeNull();
  });

  it('keeps chats in the tab where the server keeps none', async () => {
    fake.session = { ...fake.session, stored: false };
    await useSession().start();
    await say2('a');
    expect(fake.asked.some((asked) => asked.path.startsWith('/ui/chats'))).toBe(false);
    expect(shown()).toEqual(['user: a', 'assistant: Hello']);
  });
});

async function say2(text: string): Promise<void> {
  await talk.send(text);
  await until(() => chat.path.at(-1)?.finish_reason);
}
