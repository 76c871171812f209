// What an answer says, whole or streamed, in a few plain values: the twin of
// tests/support/summaries.py, whose docstring says what is in one.
import assert from "node:assert/strict";

import { collected } from "./sdk.mjs";

const USAGE = { stream: true, stream_options: { include_usage: true } };

const endpoint = (client, api) =>
  ({ chat: client.chat.completions, completions: client.completions, responses: client.responses })[
    api
  ];

export async function whole(client, { api, fields }) {
  const answer = await endpoint(client, api).create(fields);
  return api === "responses" ? ofResponse(answer) : ofChoices(answer.choices, answer.usage);
}

export async function streamed(client, { api, fields }) {
  const create = (how) => endpoint(client, api).create({ ...fields, ...how });
  if (api === "responses") return ofEvents(await collected(await create({ stream: true })));
  const chunks = await collected(await create(USAGE));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.ok(chunks.every((chunk) => chunk.id === last.id && !chunk.usage));
  return ofChoices(joined(chunks), last.usage);
}

export function ofResponse(answer) {
  const parts = answer.output.flatMap((item) => (item.type === "message" ? item.content : []));
  const calls = answer.output.filter((item) => item.type === "function_call");
  const logprobs = parts.flatMap((part) => part.logprobs ?? []);
  return {
    texts: [answer.output_text],
    finish: [answer.incomplete_details?.reason ?? answer.status],
    called: [calls.map((call) => call.name)],
    arguments: [calls.map((call) => call.arguments)],
    tokens: logprobs.length ? [logprobs.map((entry) => entry.token)] : null,
    top: Math.max(0, ...logprobs.map((entry) => entry.top_logprobs.length)),
    completion_tokens: answer.usage.output_tokens,
  };
}

function ofEvents(events) {
  const { response } = events.at(-1);
  const text = (kind) =>
    events.map((event) => (event.type === `response.${kind}.delta` ? event.delta : "")).join("");
  // A response of a stream has no `output_text`; the SDK adds it to whole ones alone.
  const summary = ofResponse({ ...response, output_text: text("output_text") });
  assert.equal(text("function_call_arguments"), summary.arguments.flat().join(""));
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, number) => number),
  );
  return summary;
}

function joined(chunks) {
  const choices = [];
  for (const piece of chunks.flatMap((chunk) => chunk.choices)) {
    const choice = (choices[piece.index] ??= { text: "", message: { tool_calls: [] } });
    const delta = piece.delta ?? { content: piece.text };
    choice.text += delta.content ?? "";
    choice.finish_reason = piece.finish_reason ?? choice.finish_reason;
    for (const { index, function: made } of delta.tool_calls ?? []) {
      const call = (choice.message.tool_calls[index] ??= { function: { name: "", arguments: "" } });
      call.function.name += made.name ?? "";
      call.function.arguments += made.arguments ?? "";
    }
    for (const [name, values] of Object.entries(piece.logprobs ?? {})) {
      choice.logprobs ??= {};
      choice.logprobs[name] = [...(choice.logprobs[name] ?? []), ...(values ?? [])];
    }
  }
  return choices;
}

function ofChoices(choices, usage) {
  const calls = choices.map((choice) => choice.message?.tool_calls ?? []);
  const scored = choices.flatMap((choice) => choice.logprobs ?? []);
  const candidates = scored.flatMap(
    (one) => one.top_logprobs ?? one.content.map((entry) => entry.top_logprobs),
  );
  const tokens = scored.map((one) => one.tokens ?? one.content.map((entry) => entry.token));
  return {
    texts: choices.map((choice) => choice.text || choice.message?.content || ""),
    finish: choices.map((choice) => choice.finish_reason),
    called: calls.map((made) => made.map((call) => call.function.name)),
    arguments: calls.map((made) => made.map((call) => call.function.arguments)),
    tokens: tokens.length ? tokens : null,
    top: Math.max(0, ...candidates.map((one) => Object.keys(one ?? {}).length)),
    completion_tokens: usage.completion_tokens,
  };
}
