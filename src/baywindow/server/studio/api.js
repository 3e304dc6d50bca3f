// The server's API, as any client sees it: JSON, uploads, and a stream of events. A key, where one is asked for, stays in this tab.

const KEY = "baywindow-key";

export class Refused extends Error {
  constructor(status, message, hint) {
    super(hint ? `${message} (${hint})` : message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

function headers(more = {}) {
  return key.get() ? { ...more, Authorization: `Bearer ${key.get()}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  const told = await response.json().then((body) => body.error ?? {}, () => ({}));
  throw new Refused(response.status, told.message ?? `the server answered ${response.status}`, told.hint);
}

export async function get(path) {
  return (await checked(await fetch(path, { headers: headers() }))).json();
}

export async function text(path) {
  return (await checked(await fetch(path, { headers: headers() }))).text();
}

export async function remove(path) {
  return (await checked(await fetch(path, { method: "DELETE", headers: headers() }))).json();
}

export async function upload(file) {
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("file", file);
  return (await checked(await fetch("v1/files", { method: "POST", body: form, headers: headers() }))).json();
}

/** Events of a streamed chat completion, as parsed JSON. Ends at [DONE]; throws Refused for an error event or a broken stream. */
export async function* chat(body, signal) {
  const response = await checked(
    await fetch("v1/chat/completions", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ ...body, stream: true }),
      signal,
    }),
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused(0, "the stream ended before the answer did");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(0, event.error.message, event.error.hint);
      yield event;
    }
  }
}
