/** Errors in plain words. */
import { type Key, t } from '@/i18n';
import { ApiError, CutOff, Unreachable } from './http';
import type { ErrorBody } from './types';

const BY_CODE: Record<string, Key> = {
  unreachable: 'error.unreachable',
  cut_off: 'error.cutOff',
  context_length_exceeded: 'error.tooLong',
  server_overloaded: 'error.overloaded',
  model_loading: 'error.loading',
  model_evicted: 'error.evicted',
  model_unloaded: 'error.unloaded',
  model_not_found: 'error.noModel',
  model_failed: 'error.modelFailed',
  engine_died: 'error.engineDied',
  server_stopping: 'error.stopping',
  invalid_api_key: 'error.key',
  storage_failed: 'error.storage',
  admin_closed: 'error.adminClosed',
};

/** What went wrong, as an answer keeps it. */
export function bodyOf(error: unknown): ErrorBody {
  if (error instanceof ApiError) return error.body;
  const code = error instanceof Unreachable ? 'unreachable' : 'cut_off';
  if (error instanceof Unreachable || error instanceof CutOff)
    return { message: error.message, type: 'connection_error', code };
  return { message: String(error), type: 'page_error', code: null };
}

/** What to tell people, and what the server itself said where that adds something. */
export function explain(error: ErrorBody): { text: string; detail: string } {
  const key = error.code ? BY_CODE[error.code] : undefined;
  if (!key) return { text: t('error.other'), detail: error.message };
  const ours = error.type === 'connection_error';
  return { text: t(key), detail: ours ? '' : error.message };
}

export function inWords(error: unknown): string {
  const { text, detail } = explain(bodyOf(error));
  return detail ? `${text} ${detail}` : text;
}
