// Reports of `bay bench`: tables and pictures, as the report on disk has them.

import { get } from "./api.js";
import { byId, el } from "./dom.js";

export async function showRuns() {
  const { data } = await get("studio/runs");
  byId("no-runs").hidden = data.length > 0;
  byId("run").replaceChildren(...data.map((run) => el("option", { value: run.name }, run.name)));
  if (data.length) await showRun();
}

export async function showRun() {
  const report = byId("report");
  report.setAttribute("aria-busy", "true");
  try {
    const { blocks } = await get(`studio/runs/${encodeURIComponent(byId("run").value)}`);
    report.replaceChildren(...blocks.map(drawn));
  } finally {
    report.removeAttribute("aria-busy");
  }
}

function drawn(block) {
  if (block.kind === "heading") return el(`h${Math.min(block.level + 1, 6)}`, {}, block.text);
  if (block.kind === "figure") {
    return el("figure", {}, el("img", { src: `data:image/png;base64,${block.png}`, alt: block.text }), el("figcaption", {}, block.text));
  }
  if (block.kind !== "table") return el("p", {}, block.text);
  const row = (cells, tag) => el("tr", {}, ...cells.map((cell) => el(tag, tag === "th" ? { scope: "col" } : {}, cell)));
  const table = el("table", {}, el("thead", {}, row(block.header, "th")), el("tbody", {}, ...block.rows.map((cells) => row(cells, "td"))));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, table);
}
