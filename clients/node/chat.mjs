// Ask one question and print the answer as it comes, with OpenAI's own package.
//
//   npm install && OPENAI_BASE_URL=http://127.0.0.1:8000/v1 node chat.mjs "Who wrote Hamlet?"
//
// Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "none",
});
const question = process.argv.slice(2).join(" ") || "What is the capital of France?";

const stream = await client.chat.completions.create({
  model: "smollm2-135m-instruct",
  messages: [{ role: "user", content: question }],
  temperature: 0,
  max_tokens: 200,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
process.stdout.write("\n");
