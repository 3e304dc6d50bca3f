// The context strip: what a prompt was made of, in order, each part as wide as its tokens, coloured by what became of it.

import { count, el } from "./dom.js";

export const FATES = {
  kept: "read as it is",
  compressed: "shortened",
  retrieved: "found by search",
  cached: "from the cache",
  evicted: "dropped inside the model",
  left_out: "not read",
};
export const KINDS = { system: "instructions", memory: "memory", passage: "passage", question: "question", other: "other text" };

const LEAST_NAMED_SHARE = 0.12; // a part that is narrower has no room for its name
const LEAST_SHARE = 0.004; // of the width, so that a short part can still be seen and pressed

/** Neighbours of one kind, fate and source stand as one: a strip of a thousand chunks says nothing. */
export function merged(regions) {
  const found = [];
  for (const region of regions) {
    const last = found.at(-1);
    const joins = last && last.kind === region.kind && last.fate === region.fate && last.source === region.source;
    if (joins) Object.assign(last, { tokens: last.tokens + region.tokens, parts: last.parts + 1, end: region.end });
    else if (region.tokens > 0) found.push({ ...region, parts: 1 });
  }
  return found;
}

export function describe(region) {
  const where = region.source ? ` of ${region.source}` : "";
  const parts = region.parts > 1 ? `, ${region.parts} parts` : "";
  return `${KINDS[region.kind] ?? region.kind}${where}: ${count(region.tokens, "token")}${parts}, ${FATES[region.fate] ?? region.fate}`;
}

/** A figure with one list item a region. `open(region)` is called for a part that has a source. */
export function strip(regions, title, open) {
  const shown = merged(regions);
  const total = shown.reduce((sum, region) => sum + region.tokens, 0);
  if (!total) return null;
  const bar = el("ol", { class: "strip" });
  for (const region of shown) {
    const label = describe(region);
    const name = region.tokens / total > LEAST_NAMED_SHARE ? KINDS[region.kind] ?? region.kind : "";
    const inner = region.source
      ? el("button", { type: "button", title: label, "aria-label": label, onclick: () => open(region) }, name)
      : el("span", { title: label, role: "img", "aria-label": label }, name);
    const item = el("li", { "data-fate": region.fate, "data-kind": region.kind }, inner);
    item.style.flexGrow = Math.max(region.tokens / total, LEAST_SHARE);
    bar.append(item);
  }
  return el("figure", { class: "context" }, el("figcaption", {}, `${title}: ${count(total, "token")}`), bar);
}

/** What the colours mean, for those that occur, with their tokens. */
export function legend(regions) {
  const tokens = {};
  for (const region of regions) tokens[region.fate] = (tokens[region.fate] ?? 0) + region.tokens;
  const items = Object.entries(tokens).filter(([, n]) => n > 0);
  return el(
    "ul",
    { class: "legend" },
    ...items.map(([fate, n]) => el("li", { "data-fate": fate }, `${FATES[fate] ?? fate}: ${n.toLocaleString("en")}`)),
  );
}
