import { credentials } from './credentials';
import type { ErrorBody } from './types';

/** What the server answered instead of what was asked for. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ErrorBody,
    /** Seconds after which it is worth another try; null: the server did not say. */
    readonly retryAfter: number | null = null,
  ) {
    super(body.message);
  }
}

/** Nothing answered: no network, no server, or one that is just being started again. */
export class Unreachable extends Error {}

/** An answer that broke off: the connection was cut in the middle of a stream. */
export class CutOff extends Error {}

export interface Call {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Send the admin key rather than the API key, if there is one. */
  admin?: boolean;
  /** Let the request outlive the page. */
  keepalive?: boolean;
}

/**
 * A successful response.
 *
 * @throws ApiError when the server refuses, Unreachable when nothing answers; an abort as it is.
 */
export async function send(path: string, call: Call = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  const key = (call.admin && credentials.admin) || credentials.key;
  if (key) headers['Authorization'] = `Bearer ${key}`;
  const changes = call.method !== undefined && call.method !== 'GET';
  if (changes) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method: call.method ?? 'GET',
      headers,
      body: call.body === undefined ? null : JSON.stringify(call.body),
      signal: call.signal ?? null,
      keepalive: call.keepalive ?? false,
    });
  } catch (error) {
    if (call.signal?.aborted) throw error;
    throw new Unreachable('The server cannot be reached.', { cause: error });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function json<T>(path: string, call: Call = {}): Promise<T> {
  const response = await send(path, call);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (call.signal?.aborted) throw error;
    throw new Unreachable('The answer broke off.', { cause: error });
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  const after = Number(response.headers.get('retry-after') ?? NaN);
  return new ApiError(
    response.status,
    errorOf(text) ?? { message: plain(response, text), type: 'http_error', code: null },
    Number.isFinite(after) ? after : null,
  );
}

/** The error inside a body of OpenAI's form, null if it is none. */
export function errorOf(text: string): ErrorBody | null {
  try {
    const body: unknown = JSON.parse(text);
    const error = (body as { error?: unknown } | null)?.error;
    if (typeof error !== 'object' || error === null || !('message' in error)) return null;
    return error as ErrorBody;
  } catch {
    return null;
  }
}

function plain(response: Response, text: string): string {
  const status = `${response.status} ${response.statusText}`.trim();
  // A proxy's page of HTML says nothing to people.
  return text && text.length < 300 && !text.includes('<') ? `${status}: ${text}` : status;
}
