/** Messages as the page holds them. */
import { reactive } from 'vue';
import type { ChatMessage, ChatRequest, Message, NewMessage, Settings } from '@/api/types';

/** A message with a name that stays when the server gives it its id. */
export interface Line extends Message {
  key: string;
  /** Whether another tab seems to be writing it. */
  elsewhere?: boolean;
}

let made = 0;

export function lineOf(message: Message): Line {
  return reactive({ ...message, key: message.id });
}

/** A line that the server does not know yet. */
export function newLine(fields: NewMessage): Line {
  const key = `new-${++made}`;
  return reactive({
    reasoning: '',
    model: null,
    params: null,
    usage: null,
    finish_reason: null,
    error: null,
    state: 'whole' as const,
    ...fields,
    id: key,
    created: Date.now() / 1000,
    siblings: [key],
    key,
  });
}

/** What the server made of a line; its content may have grown meanwhile. */
export function adopt(line: Line, saved: Message): void {
  line.id = saved.id;
  line.parent = saved.parent;
  line.created = saved.created;
  line.siblings = saved.siblings;
}

/** What is sent for an answer to a path. */
export function requestFor(
  model: string,
  settings: Settings,
  path: readonly Pick<Message, 'role' | 'content'>[],
): ChatRequest {
  const { system, ...sampling } = settings;
  const messages: ChatMessage[] = system ? [{ role: 'system', content: system }] : [];
  for (const { role, content } of path) {
    // An answer that failed before its first word is nothing that was said.
    if (content || role !== 'assistant') messages.push({ role, content });
  }
  return { model, messages, ...sampling };
}

/** As before, but the last answer is gone on with. */
export function continuing(request: ChatRequest): ChatRequest {
  return { ...request, continue_final_message: true, add_generation_prompt: false };
}
