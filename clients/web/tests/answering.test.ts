import { beforeEach, describe, expect, it, vi } from 'vitest';
import { answer, newRun, speed } from '@/chat/answering';
import { frames } from '@/chat/frames';
import { continuing, newLine, requestFor } from '@/chat/lines';
import { Fake, chunk, finish, refusal, stream, until } from './support/fake';

let fake: Fake;
const request = requestFor('tiny', {}, [{ role: 'user', content: 'Hi' }]);
const line = () => newLine({ parent: null, role: 'assistant', content: '' });

beforeEach(() => {
  fake = new Fake();
});

describe('an answer', () => {
  it('is written with its usage and how it ended', async () => {
    const written = line();
    const { run, signal } = newRun();
    await answer(request, written, run, signal);
    expect(written).toMatchObject({
      content: 'Hello',
      state: 'whole',
      finish_reason: 'stop',
      error: null,
      usage: { completion_tokens: 2, prompt_tokens: 9 },
    });
    expect(written.usage?.timing?.first).toBeGreaterThanOrEqual(0);
    expect(run.phase).toBe('done');
  });

  it('keeps what came before it was stopped, and counts it', async () => {
    const written = line();
    const { run, signal } = newRun();
    fake.answer = (_, signal) => stream([chunk('Half', 1)], signal, true);
    const done = answer(request, written, run, signal);
    await until(() => run.phase === 'writing');
    run.stop();
    await done;
    expect(written).toMatchObject({
      content: 'Half',
      finish_reason: 'stopped',
      state: 'whole',
      error: null,
      usage: { completion_tokens: 1 },
    });
  });

  it('keeps what came before it failed', async () => {
    const written = line();
    const { run, signal } = newRun();
    fake.answer = () => stream([chunk('Half', 1)]);
    await answer(request, written, run, signal);
    expect(written).toMatchObject({ content: 'Half', state: 'partial', error: { code: 'cut_off' } });
  });

  it('that is refused says why', async () => {
    const written = line();
    const { run, signal } = newRun();
    fake.answer = () => refusal(400, 'context_length_exceeded');
    await answer(request, written, run, signal);
    expect(written).toMatchObject({ content: '', error: { code: 'context_length_exceeded' } });
  });

  it('that is gone on with is one answer with one count', async () => {
    const written = line();
    await answer(request, written, ...both());
    fake.answer = () => stream([chunk(', you', 1), finish('stop', { completion_tokens: 1, prompt_tokens: 11 })]);
    await answer(continuing(request), written, ...both());
    expect(written.content).toBe('Hello, you');
    expect(written.usage).toMatchObject({ prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 });
  });

  it('tells what its model is waiting for', async () => {
    const progress = { status: 'loading', detail: 'reading weights', waiting: 2 };
    const { run, signal } = newRun();
    fake.answer = (_, signal) =>
      stream([`event: corral.progress\ndata: ${JSON.stringify(progress)}\n\n`], signal, true);
    const done = answer(request, line(), run, signal);
    await until(() => run.phase === 'loading');
    expect(run.progress).toEqual(progress);
    run.stop();
    await done;
  });
});

function both(): [ReturnType<typeof newRun>['run'], AbortSignal] {
  const { run, signal } = newRun();
  return [run, signal];
}

describe('speed', () => {
  it('is measured from the first token on', () => {
    const usage = { prompt_tokens: 1, completion_tokens: 11, total_tokens: 12 };
    expect(speed({ ...usage, timing: { first: 3, writing: 2 } })).toBe(5);
    expect(speed({ ...usage, completion_tokens: 1, timing: { first: 3, writing: 0 } })).toBeNull();
    expect(speed({ ...usage, timing: { first: 3, writing: 0.01 } })).toBeNull();
    expect(speed(null)).toBeNull();
  });
});

describe('frames', () => {
  it('hand on in one piece what comes within one', async () => {
    const taken: string[] = [];
    const buffer = frames((text) => taken.push(text));
    'many small pieces'.split(' ').forEach((piece) => buffer.push(piece));
    expect(taken).toEqual([]);
    await until(() => taken.length > 0);
    expect(taken).toEqual(['manysmallpieces']);
    buffer.push('!');
    buffer.flush();
    expect(taken[1]).toBe('!');
  });
});

describe('frames of a page that is hidden', () => {
  it('come all the same, also where one was waited for', async () => {
    vi.spyOn(window, 'requestAnimationFrame').mockReturnValue(1);
    const taken: string[] = [];
    const buffer = frames((text) => taken.push(text));
    buffer.push('a');
    await until(() => taken.length > 0);
    buffer.push('b');
    await until(() => taken.length > 1);
    expect(taken).toEqual(['a', 'b']);
  });
});

describe('a request', () => {
  it('has the system prompt first and leaves out answers without a word', () => {
    const path = [
      { role: 'user' as const, content: 'a' },
      { role: 'assistant' as const, content: '' },
      { role: 'user' as const, content: 'b' },
    ];
    expect(requestFor('m', { system: 'Be brief.', top_k: 5, stop: ['\n'] }, path)).toEqual({
      model: 'm',
      top_k: 5,
      stop: ['\n'],
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'a' },
        { role: 'user', content: 'b' },
      ],
    });
  });
});
