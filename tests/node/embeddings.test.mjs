// Vectors: tests/e2e/test_embeddings.py runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OpenAI, cases, failure, open } from "./sdk.mjs";

const client = open();

for (const { model, size, texts, vectors } of cases.embeddings) {
  test(`${model}: as Python's SDK has them`, async () => {
    // The SDK asks for base64 by itself and decodes it.
    const answer = await client.embeddings.create({ model, input: texts });
    assert.deepEqual(answer.data.map((item) => item.index), texts.map((_, number) => number));
    for (const [at, { embedding }] of answer.data.entries()) {
      assert.equal(embedding.length, size);
      assert.ok(embedding.every((number, n) => Math.abs(number - vectors[at][n]) < 1e-4));
    }
    const plain = await client.embeddings.create({
      model,
      input: texts[0],
      encoding_format: "float",
    });
    const [first] = answer.data;
    assert.ok(plain.data[0].embedding.every((x, n) => Math.abs(x - first.embedding[n]) < 1e-4));
    assert.ok(answer.usage.prompt_tokens > plain.usage.prompt_tokens);
  });

  test(`${model}: what does not fit`, async () => {
    const error = await failure(() =>
      client.embeddings.create({ model, input: "word ".repeat(9000) }),
    );
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.deepEqual([error.code, error.param], ["context_length_exceeded", "input"]);
  });
}
