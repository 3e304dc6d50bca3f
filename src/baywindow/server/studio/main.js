// The page: documents, a question, one answer or two beside each other, and the other views.

import * as api from "./api.js";
import { Panel } from "./answer.js";
import { showRun, showRuns } from "./bench.js";
import { byId, el } from "./dom.js";
import { showMemories } from "./memory.js";

const documents = new Map(); // id → name, of uploads that are asked about
let running = null; // AbortController of the question under way

// -- views

const SHOWN = { ask: () => {}, memory: () => showMemories(byId("memory-query").value), bench: showRuns };

function show(view) {
  for (const button of document.querySelectorAll("nav button")) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  for (const name of Object.keys(SHOWN)) byId(`view-${name}`).hidden = name !== view;
  attempt(SHOWN[view]);
}

for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => show(button.dataset.view));

function say(text) {
  byId("state").textContent = text;
}

/** Run something that talks to the server; a server that wants a key is given the chance to get one, once. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.status !== 401) return say(error.message);
    await askForKey();
    await Promise.resolve(work()).catch((again) => say(again.message));
  }
}

function askForKey() {
  const dialog = byId("key");
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(api.key.set(byId("key-value").value)), { once: true });
  });
}

// -- documents

async function addFiles(files) {
  for (const file of files) {
    say(`uploading ${file.name}`);
    await attempt(async () => {
      const made = await api.upload(file);
      documents.set(made.id, made.filename);
      say(`${made.filename} is here`);
    });
  }
  listDocuments();
}

function listDocuments() {
  const items = [...documents].map(([id, name]) =>
    el("li", {}, name, el("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => removeDocument(id) }, "×")),
  );
  byId("documents").replaceChildren(...items);
}

function removeDocument(id) {
  documents.delete(id);
  listDocuments();
  attempt(() => api.remove(`v1/files/${encodeURIComponent(id)}`));
}

byId("files").addEventListener("change", (event) => addFiles(event.target.files).then(() => (event.target.value = "")));
const drop = byId("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  addFiles(event.dataTransfer.files);
});

// -- asking

function body(recipe) {
  const model = byId("model").value.split(/[+|]/)[0];
  const files = [...documents.keys()].map((id) => ({ type: "file", file: { file_id: id } }));
  const content = [...files, { type: "text", text: byId("question").value.trim() }];
  return { model: recipe ? model + recipe.suffix : byId("model").value, messages: [{ role: "user", content }] };
}

async function parsed(line) {
  return line.trim() ? api.get(`studio/recipe?line=${encodeURIComponent(line.trim())}`) : null;
}

async function ask(event) {
  event.preventDefault();
  const lines = [byId("recipe").value, ...(byId("rival").value.trim() ? [byId("rival").value] : [])];
  running?.abort();
  const mine = (running = new AbortController());
  busy(true);
  await attempt(async () => {
    const recipes = await Promise.all(lines.map(parsed));
    const fileIds = new Map([...documents].map(([id, name]) => [name, id]));
    const panels = recipes.map((recipe) => new Panel(recipe?.line ?? "as configured", fileIds));
    byId("answers").replaceChildren(...panels.map((panel) => panel.root));
    // One after the other: side by side they would share the machine, and neither's time would be its own.
    for (const [i, panel] of panels.entries()) if (!mine.signal.aborted) await answerInto(panel, recipes[i], mine.signal);
  });
  if (running === mine) busy(false);
}

async function answerInto(panel, recipe, signal) {
  say("asking");
  try {
    let ended = null;
    for await (const event of api.chat(body(recipe), signal)) {
      const delta = event.choices[0]?.delta ?? {};
      if (delta.content) panel.piece(delta.content);
      if (event.baywindow) ended = [delta.annotations ?? [], event.baywindow];
    }
    if (ended) panel.finish(...ended);
    say("answered");
  } catch (error) {
    panel.fail(signal.aborted ? "Stopped." : error.message);
    say("");
    if (error.status === 401) throw error;
  }
}

function busy(is) {
  byId("send").disabled = is;
  byId("stop").hidden = !is;
}

byId("ask").addEventListener("submit", ask);
byId("stop").addEventListener("click", () => running?.abort());
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
byId("memory-search").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => showMemories(byId("memory-query").value));
});
byId("run").addEventListener("change", () => attempt(showRun));

// -- start

attempt(async () => {
  const about = await api.get("studio/about");
  byId("model").replaceChildren(...about.models.map((name) => el("option", { value: name }, name)));
  byId("recipes").replaceChildren(...about.recipes.map((recipe) => el("option", { value: recipe.line }, recipe.summary)));
  document.querySelector('[data-view="memory"]').hidden = !about.memory;
  document.querySelector('[data-view="bench"]').hidden = !about.bench;
  for (const file of about.files) documents.set(file.id, file.filename);
  listDocuments();
  say(`${about.label || about.models[0] || "no model"}; version ${about.version}`);
});
