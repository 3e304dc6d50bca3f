// The memory browser: what is remembered, where it comes from, and how to forget it.

import { get, remove } from "./api.js";
import { byId, el } from "./dom.js";

export async function showMemories(query = "") {
  const list = byId("memories");
  list.replaceChildren(el("p", { class: "hint" }, "…"));
  try {
    const { data, where } = await get(`studio/memories?q=${encodeURIComponent(query)}`);
    const rows = data.map(row);
    list.replaceChildren(
      el("p", { class: "hint" }, rows.length ? `${rows.length} shown, kept in ${where}` : "Nothing is remembered here."),
      el("ul", { class: "memories" }, ...rows),
    );
  } catch (error) {
    list.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
  }
}

function row(memory) {
  const when = memory.said_at ? new Date(memory.said_at).toLocaleString() : "";
  const history = el("div", { class: "history" });
  const item = el(
    "li",
    { class: "card" },
    el("p", {}, memory.text),
    el("p", { class: "hint" }, [memory.kind, memory.speaker, when].filter(Boolean).join(" · ")),
    el("button", { type: "button", "aria-expanded": "false", onclick: (event) => tell(memory.id, history, event.currentTarget) }, "Where from?"),
    el("button", { type: "button", onclick: () => forget(memory.id, item) }, "Forget"),
    history,
  );
  return item;
}

async function tell(id, into, button) {
  if (into.childNodes.length) {
    into.replaceChildren();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  try {
    const { versions, turns } = await get(`studio/memories/${encodeURIComponent(id)}`);
    button.setAttribute("aria-expanded", "true");
    into.replaceChildren(
      el("h3", {}, "Said"),
      el("ul", {}, ...turns.map((turn) => el("li", {}, `${turn.speaker}: ${turn.text}`))),
      el("h3", {}, "Versions"),
      el("ul", {}, ...versions.map((version) => el("li", { class: version.current ? "" : "past" }, version.text))),
    );
  } catch (error) {
    into.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
  }
}

async function forget(id, item) {
  if (!window.confirm("Forget this and the words it rests on?")) return;
  try {
    await remove(`studio/memories/${encodeURIComponent(id)}`);
    item.remove();
  } catch (error) {
    item.append(el("p", { class: "error", role: "alert" }, error.message));
  }
}
