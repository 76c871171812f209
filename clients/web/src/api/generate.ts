/** One answer from the server, as it comes. */
import { ApiError, CutOff, errorOf, json, send } from './http';
import { events } from './sse';
import type { ChatRequest, RenderedPrompt, Status, Usage } from './types';

/** What a model that must load first is doing. */
export interface Progress {
  status: Status;
  detail: string;
  waiting: number;
}

export type Piece =
  | { kind: 'progress'; progress: Progress }
  | { kind: 'text'; text: string }
  | { kind: 'reasoning'; text: string }
  | { kind: 'usage'; usage: Usage }
  | { kind: 'finish'; reason: string };

interface Chunk {
  choices?: {
    delta?: { content?: string | null; reasoning?: string | null };
    finish_reason?: string | null;
  }[];
  usage?: Usage | null;
}

/**
 * The pieces of an answer.
 *
 * @throws ApiError when it is refused or fails on the way, CutOff when the connection breaks.
 */
export async function* generate(
  request: ChatRequest,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const body = {
    ...request,
    stream: true,
    // Usage in every chunk: an answer that is stopped has its counts too.
    stream_options: { include_usage: true, continuous_usage_stats: true, include_progress: true },
  };
  const response = await send('/v1/chat/completions', { method: 'POST', body, signal });
  for await (const event of events(response)) {
    if (event.data === '[DONE]') return;
    if (event.name === 'corral.progress') {
      yield { kind: 'progress', progress: JSON.parse(event.data) as Progress };
      continue;
    }
    const error = event.data.includes('"error"') ? errorOf(event.data) : null;
    if (error) throw new ApiError(500, error);
    yield* piecesOf(JSON.parse(event.data) as Chunk);
  }
  throw new CutOff('The answer broke off.');
}

function* piecesOf(chunk: Chunk): Generator<Piece> {
  for (const choice of chunk.choices ?? []) {
    const { content, reasoning } = choice.delta ?? {};
    if (reasoning) yield { kind: 'reasoning', text: reasoning };
    if (content) yield { kind: 'text', text: content };
    if (choice.finish_reason) yield { kind: 'finish', reason: choice.finish_reason };
  }
  if (chunk.usage) yield { kind: 'usage', usage: chunk.usage };
}

/** The exact prompt that a conversation becomes. */
export function render(request: ChatRequest): Promise<RenderedPrompt> {
  return json('/v1/chat/completions/render', { method: 'POST', body: request });
}

/** The conversation's token ids with the text of each, where nothing is dropped from it. */
export async function tokens(
  request: ChatRequest,
): Promise<{ tokens: number[]; token_strs: string[] | null }> {
  const { model, messages, continue_final_message, add_generation_prompt } = request;
  const body = {
    model,
    messages,
    continue_final_message,
    add_generation_prompt,
    return_token_strs: true,
  };
  return json('/v1/tokenize', { method: 'POST', body });
}
