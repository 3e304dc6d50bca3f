// A source, opened at the words that were cited.

import { text } from "./api.js";
import { byId, el } from "./dom.js";

const AROUND = 20000; // characters shown before and after, so that a book does not fill the page

export async function openSource({ fileId, source, start, end, note }) {
  const dialog = byId("source");
  byId("source-title").textContent = source;
  byId("source-note").textContent = note ?? "";
  const shown = byId("source-text");
  shown.replaceChildren("…");
  if (!dialog.open) dialog.showModal();
  if (!fileId) {
    shown.replaceChildren("This text came with the question; it is kept nowhere to be opened again.");
    return;
  }
  try {
    const whole = await text(`studio/files/${encodeURIComponent(fileId)}/text`);
    // Offsets count code points, as Python does; JavaScript's strings count UTF-16 units.
    const points = Array.from(whole);
    const from = Math.max(0, start - AROUND);
    const marked = el("mark", { tabindex: "-1" }, points.slice(start, end).join(""));
    shown.replaceChildren(
      (from ? "…\n" : "") + points.slice(from, start).join(""),
      marked,
      points.slice(end, end + AROUND).join("") + (end + AROUND < points.length ? "\n…" : ""),
    );
    marked.scrollIntoView({ block: "center" });
    marked.focus({ preventScroll: true });
  } catch (error) {
    shown.replaceChildren(error.message);
  }
}

byId("source-close").addEventListener("click", () => byId("source").close());
