/** Models, and what operators see and do. */
import { json, send } from './http';
import { events } from './sse';
import type { Model, Session, Status } from './types';

export const session = (): Promise<Session> => json('/ui/session');

export async function models(): Promise<Model[]> {
  return (await json<{ data: Model[] }>('/v1/models')).data;
}

export interface Replica {
  status: Status;
  detail: string | null;
  devices: string[];
  memory: {
    held: Record<string, number>;
    need: { weights: number; kv_cache: number; adapters: number; overhead: number } | null;
    measured: Record<string, number> | null;
  };
  requests: { running: number; waiting: number };
  tokens_per_second: number;
  load_seconds: number | null;
  failures: number;
  progress: {
    stage: string;
    done: number;
    total: number | null;
    unit: string;
    expected_seconds: number | null;
  } | null;
}

export interface Engine {
  id: string;
  models: { id: string; description: string; kind: string }[];
  status: Status;
  detail: string | null;
  since: number;
  pinned: boolean;
  requests: { running: number; waiting: number };
  tokens_per_second: number;
  replicas: Replica[];
}

export interface Device {
  id: string;
  budget: number;
  held: number;
  free: number;
}

/** As people write it. */
export const deviceName = (id: string): string => (id === 'ram' ? 'RAM' : id);

export interface HerdState {
  models: { data: Engine[] };
  memory: { devices: Device[] };
}

export type Action = 'load' | 'unload' | 'restart' | 'sleep' | 'wake' | 'pin' | 'unpin';

/** Have an engine do something; returns when it has begun. */
export async function act(model: string, action: Action): Promise<void> {
  const path = `/admin/models/${model.split('/').map(encodeURIComponent).join('/')}`;
  await send(`${path}/${action}?wait=false`, { method: 'POST', body: {}, admin: true });
}

/** The herd, again whenever something has changed. */
export async function* watch(signal: AbortSignal): AsyncGenerator<HerdState> {
  const response = await send('/admin/events', { signal, admin: true });
  for await (const event of events(response)) {
    if (event.name === 'herd') yield JSON.parse(event.data) as HerdState;
  }
}
