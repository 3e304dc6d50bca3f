// One recipe's answer: text as it streams, marks that open their sources, the context strip, the timeline, and the cost.

import { count, el, seconds } from "./dom.js";
import { openSource } from "./source.js";
import { legend, strip } from "./strip.js";
import { timeline } from "./timeline.js";

export class Panel {
  constructor(title, fileIds) {
    this.fileIds = fileIds; // by source, to open a region of one
    this.said = "";
    this.text = el("p", { class: "answer" });
    this.more = el("div");
    this.root = el("article", { class: "card", "aria-busy": "true", "aria-label": title }, el("h2", {}, title), this.text, this.more);
  }

  piece(text) {
    this.said += text;
    this.text.textContent = this.said;
  }

  fail(message) {
    this.root.removeAttribute("aria-busy");
    this.more.replaceChildren(el("p", { class: "error", role: "alert" }, message));
  }

  /** The end of the stream: annotations become buttons, and what was done is drawn. */
  finish(annotations, report) {
    this.root.removeAttribute("aria-busy");
    const whole = report.text ?? this.said;
    const cited = [...annotations].sort((a, b) => a.start_index - b.start_index);
    this.#withMarks(Array.from(whole), cited);
    const regions = report.steps.flatMap((step) => step.regions);
    this.more.replaceChildren(
      ...[this.#sources(cited), this.#strips(report), legend(this.#told(regions, report)), this.#notes(report), this.#trace(report), this.#cost(report)].filter(Boolean),
    );
  }

  #withMarks(points, cited) {
    const parts = [];
    let at = 0;
    for (const { start_index: from, end_index: to, text, file_citation: citation } of cited) {
      if (from < at) continue;
      parts.push(points.slice(at, from).join(""));
      parts.push(el("button", { type: "button", class: "mark", title: place(citation), onclick: () => this.#open(citation) }, text));
      at = to;
    }
    this.text.replaceChildren(...parts, points.slice(at).join(""));
  }

  #sources(cited) {
    const seen = new Map();
    for (const { text, file_citation: citation } of cited) seen.set(text, citation);
    if (!seen.size) return null;
    const items = [...seen].map(([mark, citation]) =>
      el(
        "li",
        {},
        el("button", { type: "button", onclick: () => this.#open(citation) }, `${mark} ${place(citation)}`),
        el("q", {}, citation.quote),
        citation.verified ? null : el("strong", { class: "warn" }, "these words were not found in the source"),
      ),
    );
    return el("ul", { class: "sources", "aria-label": "Sources" }, ...items);
  }

  /** The last prompt, from which the answer was written, and beside it what no call read. */
  #strips(report) {
    const last = report.steps.filter((step) => step.calls).at(-1);
    if (!last) return null;
    const regions = this.#told(last.regions, report);
    return strip(regions, "The last prompt and what was left out", (region) => this.#openRegion(region));
  }

  #told(regions, report) {
    const said = regions.filter((region) => region.fate === "left_out").reduce((sum, region) => sum + region.tokens, 0);
    const silent = Math.max(0, report.tokens_left_out - said);
    return silent ? [...regions, { kind: "other", fate: "left_out", tokens: silent, source: null, start: 0, end: 0 }] : regions;
  }

  #notes(report) {
    return report.notes.length ? el("ul", { class: "notes", "aria-label": "Remarks" }, ...report.notes.map((note) => el("li", {}, note))) : null;
  }

  #trace(report) {
    const steps = timeline(report.steps, (region) => this.#openRegion(region));
    return el("details", { class: "trace" }, el("summary", {}, `Timeline: ${count(report.steps.length, "step")}`), steps);
  }

  #cost(report) {
    const parts = [
      `${count(report.tokens_in, "token")} in the request`,
      `${report.tokens_kept.toLocaleString("en")} read`,
      count(report.calls, "call"),
      seconds(report.seconds),
      report.cache_hit ? "from the cache" : "",
      report.found ? "" : "not found in these documents",
    ];
    return el("p", { class: "cost" }, `${report.recipe || "stock"} · ${parts.filter(Boolean).join(" · ")}`);
  }

  #open(citation) {
    openSource({ fileId: citation.file_id, source: place(citation), start: citation.start, end: citation.end, note: citation.label });
  }

  #openRegion(region) {
    const { source, start, end } = region;
    openSource({ fileId: this.fileIds.get(source), source, start, end, note: "" });
  }
}

function place(citation) {
  const where = citation.page ? `page ${citation.page}` : citation.line ? `line ${citation.line}` : "";
  return [citation.filename, where].filter(Boolean).join(", ");
}
