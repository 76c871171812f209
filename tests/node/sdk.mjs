// OpenAI's own package for Node, in the version that clients/node pins, pointed at the server.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(new URL("../../clients/node/package.json", import.meta.url));
export const { OpenAI } = require("openai");
export const { zodResponseFormat, zodTextFormat } = require("openai/helpers/zod");
export const { z } = require("zod");

// No retries: a test must see each failure.
export const open = (fields = {}) => new OpenAI({ timeout: 120_000, maxRetries: 0, ...fields });

// What Python wrote for this run: models, texts, and the tables of features and refusals.
export const cases = process.env.CASES ? JSON.parse(readFileSync(process.env.CASES, "utf-8")) : {};

// The exception that a call ends with.
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call did not fail");
}

export async function collected(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}
