// A server with a key, one request at a time, and a model that cannot be loaded:
// tests/e2e/test_conformance_errors.py runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OpenAI, cases, failure, open } from "./sdk.mjs";

const client = open();
const asked = {
  model: cases.model,
  messages: [{ role: "user", content: cases.question }],
  temperature: 0,
};

test("a wrong key", async () => {
  const stranger = open({ apiKey: "sk-wrong-key-00" });
  for (const call of [
    () => stranger.models.list(),
    () => stranger.responses.retrieve("resp_0"),
    () => stranger.chat.completions.create(asked),
  ]) {
    const error = await failure(call);
    assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
    assert.equal(error.code, "invalid_api_key");
    assert.ok(!String(error).includes("sk-wrong-key-00"));
  }
});

test("a model that cannot be loaded", async () => {
  const error = await failure(() => client.completions.create({ model: "broken", prompt: "Hi" }));
  assert.ok(error instanceof OpenAI.InternalServerError, String(error));
  assert.deepEqual([error.status, error.code], [503, "model_failed"]);
});

test("too many requests", async () => {
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    max_tokens: 2000,
    ignore_eos: true,
  });
  const error = await failure(() => client.chat.completions.create(asked));
  assert.ok(error instanceof OpenAI.RateLimitError, String(error));
  assert.equal(error.code, "server_overloaded");
  assert.ok(Number(error.headers.get("retry-after")) > 0);
  stream.controller.abort();
  // The SDK's own retries wait as long as the header says.
  const answer = await client.chat.completions.create(asked, { maxRetries: 3 });
  assert.equal(answer.choices[0].message.content, cases.paris);
});
