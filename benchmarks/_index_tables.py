"""The tables of `make bench-index`, from whatever parts are there."""

from __future__ import annotations

import statistics
from typing import Any

from _peer import PINS
from _report import Parts, machine, table

LATENCIES = {"p50_ms": "p50 ms", "p90_ms": "p90 ms", "cpu_p50_ms": "processor ms (median)"}


def markdown(parts: Parts) -> str:
    """The tables, from whatever is there."""
    sections = {
        "overhead": indexing_section,
        "whole": indexing_section,
        "memory": memory_section,
        "latency": latency_section,
        "start": start_section,
        "cold": cold_section,
        "recall": recall_section,
        "bfloat16": precision_section,
    }
    out = [
        "# Indexing and retrieval, measured",
        "",
        "Made by `make bench-index` (`benchmarks/index.py`); nothing here is edited by hand.",
        "",
    ]
    for name, section in sections.items():
        result = parts.get(name)
        if isinstance(result, dict) and "missing" in result:
            out += [f"{name}: not measured: {result['missing']}", ""]
        elif result is not None:
            out += [*section(result), ""]
    m = machine()
    loads = ", ".join(f"{name} {entry['machine']['load'][0]}" for name, entry in parts.table.items())
    out += ["## Machine", "", f"{m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}."]
    out += [f"Load of the machine when each part ended (others were at work on it): {loads}."]
    return "\n".join([*out, "Versions: " + ", ".join(f"{k} {v}" for k, v in m["versions"].items()) + ".", ""])


def indexing_section(r: dict[str, Any]) -> list[str]:
    stored = "stored" in r["peers"]
    what = "everything but embedding (stored vectors on both sides)" if stored else "whole, embedding included"
    rows = [["Baywindow", f"{r['ours']['seconds']:.1f}", "", r["ours"]["chunks"], f"{r['ours']['peak_mb']:.0f}"]]
    for peer, p in r["peers"].items():
        ratios = p["ratios"]
        span = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        label = "LlamaIndex" if stored else f"LlamaIndex, {peer.rpartition(':')[2]} texts a batch"
        rows.append([label, f"{p['seconds']:.1f}", span, p["chunks"], f"{p['peak_mb']:.0f}"])
    head = ["", "seconds (median)", "times ours, median (range)", "chunks", "peak MB"]
    title = f"## Indexing, {what}: {r['files']} files, {r['characters'] / 1e6:.1f} M characters, {r['rounds']} alternating rounds"
    again = f"Looking again at the {r['files']} unchanged files: {r['ours']['unchanged_seconds']:.2f} s."
    return [title, "", f"LlamaIndex pinned: {', '.join(PINS)}.", "", table(head, rows), "", again]


def memory_section(r: list[dict[str, float]]) -> list[str]:
    rows = [[m["megabytes"], f"{m['peak_mb']:.0f}", f"{m['seconds']:.1f}"] for m in r]
    return ["## Peak memory by size of one text file (full text)", "", table(["MB of text", "peak MB", "seconds"], rows)]


def latency_section(r: dict[str, Any]) -> list[str]:
    names = ("embedding", "full_text", "vectors", "hybrid")
    keys = [key for key in LATENCIES if key in r["hybrid"]]
    rows = [[name, r[name]["n"], *(f"{r[name][key]:.1f}" for key in keys)] for name in names]
    title = f"## One question over {r['chunks']:,} chunks (synthetic words and vectors), its embedding included"
    note = f"Approximate index: recall@10 {r['recall_at_10']:.3f} against exact search with {r['nprobes']} probes."
    return [title, "", table(["", "n", *(LATENCIES[key] for key in keys)], rows), "", note]


STARTS = {
    "runs": "the model loaded",
    "kept": "a first `--keep 1`, which has a server load it",
    "served": "a running `bay serve` used, as by a second `--keep`",
}


def start_section(r: dict[str, Any]) -> list[str]:
    head = ["", "best, s", "worst, s", "processor, s (median)"]
    rows = []
    for name, title in STARTS.items():
        if runs := r.get(name):
            best, worst = (f(run["seconds"] for run in runs) for f in (min, max))
            work = statistics.median(run["processor_seconds"] for run in runs)
            rows.append([title, f"{best:.1f}", f"{worst:.1f}", f"{work:.1f}"])
    text = f"From the start of the process to the first piece of the reply, {len(r['runs'])} runs each, {r['threads']} thread(s)."
    text += " A server has read the prompt's beginning before."
    return ["## Start of `bay ask` with the embedded model", "", text, "", table(head, rows)]


def cold_section(r: dict[str, Any]) -> list[str]:
    text = f"{r['pages']} pages never seen before ({r['chunks']} chunks): searchable by words after {r['full_text_s']:.1f} s, "
    return ["## Cold start", "", text + f"first passages of `hybrid` after {r['first_answer_s']:.1f} s."]


def recall_section(r: dict[str, Any]) -> list[str]:
    out: list[str] = []
    for name, title in (("locomo", "LoCoMo, share of evidence turns"), ("natural_question", "natural_question, a chunk holds the answer")):
        rows = []
        for technique, (mean, low, high) in r[name]["recall_at_5"].items():
            gain = r[name]["hybrid_minus"].get(technique)
            more = f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})" if gain else ""
            rows.append([f"`{technique}`", f"{mean:.3f} ({low:.3f}–{high:.3f})", more])
        head = ["", "recall@5 (95 %)", "`hybrid` minus this, paired (95 %)"]
        out += [f"## Retrieval: {title}, n = {r[name]['n']}", "", table(head, rows), ""]
    return out[:-1]


def precision_section(r: dict[str, Any]) -> list[str]:
    rows = [[d, "{:.3f} ({:.3f}–{:.3f})".format(*r[d]["recall_at_5"]), f"{r[d]['seconds']:.1f}"] for d in ("float32", "bfloat16")]
    return [f"## Half precision in the embedder, n = {r['n']}", "", table(["", "recall@5 of `vectors`", "seconds"], rows)]
