// OpenAI's own client for Node, unmodified: node _client_node.mjs BASE_URL MODEL EMBEDDER (from a folder with the package `openai`)
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [baseURL, model, embedder] = process.argv.slice(2);
const entry = createRequire(process.cwd() + "/package.json").resolve("openai");
const { default: OpenAI } = await import(pathToFileURL(entry));
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];

const whole = await client.chat.completions.create({ model, messages, max_tokens: 8 });
let streamed = "";
for await (const event of await client.chat.completions.create({ model, messages, max_tokens: 8, stream: true }))
  streamed += event.choices[0]?.delta?.content ?? "";
const vectors = await client.embeddings.create({ model: embedder, input: ["a fence", "a ferry"] });
let refused = "";
try {
  await client.chat.completions.create({ model: "nobody", messages });
} catch (error) {
  refused = `${error.status} ${error.code}`;
}
console.log(JSON.stringify({
  chat: whole.choices[0].message.content, stream: streamed, vectors: vectors.data.length, dim: vectors.data[0].embedding.length, refused,
}));
