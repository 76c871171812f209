// Every feature through OpenAI's own package for Node. tests/e2e/test_conformance_node.py runs it
// and compares what it writes to the file RESULTS with what Python's package was answered.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, test } from "node:test";

import { OpenAI, cases, collected, failure, open, z } from "./sdk.mjs";
import { zodResponseFormat, zodTextFormat } from "./sdk.mjs";
import { streamed, whole } from "./summaries.mjs";

const client = open();
const { model, paris, question } = cases;
const asked = { model, temperature: 0 };
const messages = [{ role: "user", content: question }];
const summaries = {};

for (const feature of cases.features) {
  test(feature.id, async () => {
    summaries[feature.id] = await whole(client, feature);
    assert.deepEqual(await streamed(client, feature), summaries[feature.id]);
  });
}
after(() => writeFileSync(process.env.RESULTS, JSON.stringify(summaries)));

for (const refusal of cases.refusals) {
  for (const stream of refusal.api === "embeddings" ? [false] : [false, true]) {
    test(`${refusal.id}${stream ? ", streamed" : ""}`, async () => {
      const { chat, completions, responses, embeddings } = client;
      const endpoint = { chat: chat.completions, completions, responses, embeddings }[refusal.api];
      const error = await failure(() => endpoint.create({ ...refusal.fields, stream }));
      assert.ok(error instanceof OpenAI[refusal.error], String(error));
      assert.deepEqual([error.code, error.param], [refusal.code, refusal.param]);
      assert.equal(error.type, "invalid_request_error");
    });
  }
}

test("the helpers for chats", async () => {
  const stream = client.chat.completions.stream({ ...asked, messages });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, paris);
  const City = z.object({ name: z.string().max(20), continent: z.enum(["Asia", "Europe"]) });
  const parsed = await client.chat.completions.parse({
    ...asked,
    messages: [{ role: "user", content: "Describe Paris in JSON." }],
    response_format: zodResponseFormat(City, "city"),
  });
  assert.ok(["Asia", "Europe"].includes(parsed.choices[0].message.parsed.continent));
  const runner = client.chat.completions.runTools({
    ...asked,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [{ type: "function", function: { ...cases.weather, parse: JSON.parse, function: () => "Sunny." } }],
    tool_choice: { type: "function", function: { name: "get_weather" } },
  });
  const call = await runner.finalFunctionToolCall();
  assert.equal(typeof JSON.parse(call.arguments).city, "string");
  assert.equal(await runner.finalFunctionToolCallResult(), "Sunny.");
});

test("the helpers for responses", async () => {
  const stream = client.responses.stream({ ...asked, input: question });
  const deltas = [];
  stream.on("response.output_text.delta", (event) => deltas.push(event.delta));
  const final = await stream.finalResponse();
  assert.equal(deltas.join(""), paris);
  assert.equal(final.output_text, paris);
  const City = z.object({ name: z.string().max(20), continent: z.enum(["Asia", "Europe"]) });
  const parsed = await client.responses.parse({
    ...asked,
    input: "Describe Paris in JSON.",
    text: { format: zodTextFormat(City, "city") },
  });
  assert.ok(["Asia", "Europe"].includes(parsed.output_parsed.continent));
});

test("a response is kept, followed and forgotten", async () => {
  const first = await client.responses.create({ ...asked, input: question, metadata: { a: "b" } });
  assert.deepEqual(first.metadata, { a: "b" });
  assert.equal((await client.responses.retrieve(first.id)).output_text, paris);
  const follow = await client.responses.create({
    ...asked,
    input: "Say that again.",
    previous_response_id: first.id,
    max_output_tokens: 24,
  });
  assert.ok(follow.usage.input_tokens > first.usage.total_tokens);
  const items = await collected(client.responses.inputItems.list(follow.id));
  assert.deepEqual(items.map((item) => item.type), ["message"]);
  await client.responses.delete(first.id);
  const gone = await failure(() => client.responses.retrieve(first.id));
  assert.ok(gone instanceof OpenAI.NotFoundError);
  const again = { ...asked, input: question, previous_response_id: first.id };
  const orphan = await failure(() => client.responses.create(again));
  assert.equal(orphan.code, "previous_response_not_found");
});

test("a stream is kept and can be replayed", async () => {
  const stream = await client.responses.create({ ...asked, input: question, stream: true });
  const { response } = (await collected(stream)).at(-1);
  const replay = await client.responses.retrieve(response.id, { stream: true, starting_after: 2 });
  const deltas = (await collected(replay)).filter((e) => e.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), paris);
});

test("a response in the background", async () => {
  const queued = await client.responses.create({ ...asked, input: question, background: true });
  assert.equal(queued.status, "queued");
  let done = queued;
  while (["queued", "in_progress"].includes(done.status)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    done = await client.responses.retrieve(queued.id);
  }
  assert.deepEqual([done.status, done.output_text], ["completed", paris]);
  const long = await client.responses.create({
    ...asked,
    input: "Write a very long story about a llama that walks through France.",
    background: true,
  });
  assert.equal((await client.responses.cancel(long.id)).status, "cancelled");
  assert.equal((await client.responses.cancel(long.id)).status, "cancelled");
});

test("a conversation and its items", async () => {
  const said = { type: "message", role: "user", content: "My name is Anna." };
  const made = await client.conversations.create({ items: [said], metadata: { a: "b" } });
  assert.deepEqual(await client.conversations.retrieve(made.id), made);
  await client.responses.create({
    ...asked,
    input: "What is my name?",
    conversation: made.id,
    max_output_tokens: 24,
  });
  const list = () => collected(client.conversations.items.list(made.id, { order: "asc", limit: 2 }));
  assert.deepEqual((await list()).map((item) => item.role), ["user", "user", "assistant"]);
  const added = await client.conversations.items.create(made.id, { items: [said, said] });
  const where = { conversation_id: made.id };
  const last = await client.conversations.items.retrieve(added.last_id, where);
  assert.equal(last.id, added.last_id);
  await client.conversations.items.delete(added.first_id, where);
  assert.equal((await list()).length, 4);
  const changed = await client.conversations.update(made.id, { metadata: { c: "d" } });
  assert.deepEqual(await client.conversations.retrieve(made.id), changed);
  assert.ok((await client.conversations.delete(made.id)).deleted);
  const gone = await failure(() => client.conversations.retrieve(made.id));
  assert.ok(gone instanceof OpenAI.NotFoundError);
});

test("models", async () => {
  const models = await collected(client.models.list());
  assert.deepEqual(models.map((one) => one.id), cases.models);
  assert.deepEqual(await client.models.retrieve(model), models[0]);
  const error = await failure(() => client.models.retrieve("gpt-4o"));
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.equal(error.code, "model_not_found");
});
