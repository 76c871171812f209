/** What goes over the wire between this page and its server. */

/** Sampling values and the system prompt; what is absent is the registry's default. */
export interface Settings {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  max_tokens?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repetition_penalty?: number;
  seed?: number;
  stop?: string[];
  system?: string;
}

export interface Session {
  version: string;
  needs_key: boolean;
  signed_in: boolean;
  admin: 'open' | 'key' | 'closed';
  stored: boolean;
}

export interface Chat {
  id: string;
  title: string;
  pinned: boolean;
  model: string | null;
  settings: Settings;
  leaf: string | null;
  created: number;
  updated: number;
  messages: number;
}

export interface Page<T> {
  data: T[];
  next: string | null;
}

export interface MessagePage {
  data: Message[];
  before: string | null;
}

export type Role = 'system' | 'user' | 'assistant';

/** OpenAI's error object, as the server sends it and as an answer keeps it. */
export interface ErrorBody {
  message: string;
  type: string;
  param?: string | null;
  code?: string | null;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number; dropped_messages?: number };
  completion_tokens_details?: { reasoning_tokens?: number };
  /** Ours, in seconds: from sending to the first token, and from that to the last. */
  timing?: { first: number; writing: number };
}

export interface Message {
  id: string;
  parent: string | null;
  role: Role;
  content: string;
  reasoning: string;
  model: string | null;
  params: Settings | null;
  usage: Usage | null;
  finish_reason: string | null;
  error: ErrorBody | null;
  state: 'whole' | 'partial';
  created: number;
  siblings: string[];
}

export type NewMessage = Pick<Message, 'parent' | 'role' | 'content'> &
  Partial<Pick<Message, 'model' | 'params' | 'state'>>;
export type MessageChange = Partial<
  Pick<Message, 'content' | 'reasoning' | 'usage' | 'finish_reason' | 'error' | 'state'>
>;
export type ChatChange = Partial<Pick<Chat, 'title' | 'pinned' | 'model' | 'settings' | 'leaf'>>;

export interface Preset {
  name: string;
  settings: Settings;
}

export type Status =
  | 'unloaded'
  | 'loading'
  | 'ready'
  | 'draining'
  | 'unloading'
  | 'sleeping'
  | 'restarting'
  | 'failed';

export interface Model {
  id: string;
  description: string;
  aliases: string[];
  kind: 'generate' | 'embedding';
  template: string;
  max_model_len: number | null;
  status: Status;
  status_detail: string | null;
  /** The files that it shares with others of the same root; of an adapter, its own. */
  root?: string;
  /** The model whose adapter this is. */
  base?: string | null;
  /** Bytes of its weights, where the server tells. */
  size?: number | null;
  defaults?: Settings;
}

/** What a conversation became, token by token. */
export interface RenderedPrompt {
  model: string;
  template: string;
  prompt: string;
  prompt_token_ids: number[];
  prompt_tokens: number;
  context_length: number;
  max_tokens: number | null;
  stop: string[];
  stop_token_ids: number[];
  dropped_messages: number;
}

export interface ChatMessage {
  role: Role;
  content: string;
}

/** A body for /v1/chat/completions. */
export type ChatRequest = Omit<Settings, 'system'> & {
  model: string;
  messages: ChatMessage[];
  continue_final_message?: boolean;
  add_generation_prompt?: boolean;
};
