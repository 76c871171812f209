import { createParser } from 'eventsource-parser';
import { CutOff } from './http';

export interface ServerEvent {
  name: string;
  data: string;
}

/**
 * The events of a stream, in order. Leaving the loop closes the connection.
 *
 * @throws CutOff when the connection breaks; an abort as it is.
 */
export async function* events(response: Response): AsyncGenerator<ServerEvent> {
  const ready: ServerEvent[] = [];
  const parser = createParser({
    onEvent: (event) => ready.push({ name: event.event ?? 'message', data: event.data }),
  });
  // Streaming: a character may be split between two packets.
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await read(reader);
      if (done) return;
      parser.feed(decoder.decode(value, { stream: true }));
      while (ready.length > 0) yield ready.shift() as ServerEvent;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function read(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new CutOff('The connection broke off.', { cause: error });
  }
}
