// The trace as a timeline: one row a step, placed and sized by its seconds, opening to what it read.

import { count, el, seconds } from "./dom.js";
import { strip } from "./strip.js";

export function timeline(steps, open) {
  const total = steps.reduce((sum, step) => sum + step.seconds, 0) || 1;
  let before = 0;
  const rows = steps.map((step) => {
    const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span", { class: step.calls ? "call" : "work" }));
    bar.firstChild.style.marginInlineStart = `${(100 * before) / total}%`;
    bar.firstChild.style.width = `${Math.max(0.5, (100 * step.seconds) / total)}%`;
    before += step.seconds;
    const calls = step.calls ? `${count(step.calls, "call")}, ${step.tokens_in} → ${step.tokens_out} tokens, ` : "";
    return el(
      "li",
      {},
      el(
        "details",
        {},
        el("summary", {}, el("span", { class: "name" }, step.name), bar, el("span", { class: "cost" }, `${calls}${seconds(step.seconds)}`)),
        step.note ? el("p", { class: "hint" }, step.note) : null,
        strip(step.regions, "Read", open),
      ),
    );
  });
  return el("ol", { class: "timeline" }, ...rows);
}
