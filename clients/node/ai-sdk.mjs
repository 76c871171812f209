// Vercel's AI SDK: a streamed answer, then one that calls a tool.
//
//   npm install && OPENAI_BASE_URL=http://127.0.0.1:8000/v1 node ai-sdk.mjs "Who wrote Hamlet?"
//
// Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, tool } from "ai";
import { z } from "zod";

const corral = createOpenAICompatible({
  name: "corral",
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = corral("smollm2-135m-instruct");
const question = process.argv.slice(2).join(" ") || "What is the capital of France?";

const answer = streamText({ model, prompt: question, temperature: 0, maxOutputTokens: 200 });
for await (const piece of answer.textStream) {
  process.stdout.write(piece);
}
process.stdout.write(`\n(${(await answer.usage).totalTokens} tokens)\n`);

const weather = await generateText({
  model,
  prompt: "What is the weather in Paris?",
  tools: {
    get_weather: tool({
      description: "The weather in a city right now.",
      inputSchema: z.object({ city: z.string().max(40) }),
      execute: async ({ city }) => `It is sunny in ${city}.`,
    }),
  },
  toolChoice: "required",
  temperature: 0,
  maxOutputTokens: 200,
});
for (const { toolName, output } of weather.toolResults) {
  console.log(`${toolName}: ${output}`);
}
