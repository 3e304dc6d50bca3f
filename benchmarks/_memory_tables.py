"""The tables of the memory benchmark, from the rows that are there. Of a part that was run twice the later counts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from _locomo import KINDS
from _memory_peer import difference, ratio
from _memory_retrieval import DEPTHS, PLAIN, STEMMED
from _report import interval, table
from _rows import shown

MIB = 1 << 20
Row = dict[str, Any]


def body(rows: Sequence[Row]) -> tuple[str, Row]:
    """The page, and what programs read."""
    of: dict[str, Row] = {row["part"]: row for row in rows if "result" in row}
    makers: dict[str, Callable[[Any], str]] = {"retrieval": retrieval, "scale": scale, "peer": peer, "peer_facts": peer_facts}
    parts = [f"{makers[name](of[name]['result'])}\n\n{_load(of[name])}" for name in makers if name in of]
    answers = [row for row in rows if row["part"] == "systems"]
    history = {(row["model"], row["set"]): row["tokens"] for row in rows if row["part"] == "history"}
    told = "Means with 95 % bootstrap intervals over questions; differences are paired. The embedder is all-MiniLM-L6-v2 on the CPU."
    return "\n\n".join([told, *parts, *systems(answers, history)]), {name: _thin(row["result"]) for name, row in of.items()}


def _load(row: Row) -> str:
    return f"Load of the machine at the end of this part: {row['machine']['load'][0]} on {row['machine']['cores']} cores."


def _thin(result: Any) -> Any:
    """Without what stands once for every question: its mean and number."""
    if isinstance(result, dict):
        return {name: _thin(inner) for name, inner in result.items()}
    if isinstance(result, list) and result and all(isinstance(x, float | int) for x in result):
        return {"mean": statistics.fmean(result), "n": len(result)}
    return result


# One part, one section


def retrieval(told: Row) -> str:
    floor = max((PLAIN, STEMMED), key=lambda name: statistics.fmean(told["recall"][name]["10"]))
    lines = []
    for name, by_depth in told["recall"].items():
        over = difference(by_depth["10"], told["recall"][floor]["10"])
        paired = "the floor" if name == floor else _signed(over)
        lines.append([f"`{name}`" if "turn_retrieval" in name else name, *(shown(by_depth[str(k)]) for k in DEPTHS), paired])
    seen = [[f"`{name}`", shown(one["recall"]), f"{statistics.fmean(one['tokens']):,.0f}"] for name, one in told["shown"].items()]
    dropped = ", ".join(f"{', '.join(labels)} of {name}" for name, labels in told["unusable"].items())
    return "\n\n".join(
        [
            f"## Evidence turns found, no language model\n\n{told['n']} questions of categories 1 to 4 over {told['turns']:,} turns, a "
            f"user a conversation. Left out: {told['without_evidence']} questions without evidence; labels that name no turn ({dropped}).",
            table(["search", *(f"recall@{k}" for k in DEPTHS), "@10 over the better BM25"], lines),
            "What a prompt shows; tokens are counted from characters, four a token:",
            table(["memory, budget", "evidence shown", "tokens, mean"], seen),
            _costs(told),
        ]
    )


def _costs(told: Row) -> str:
    lines = [[f"search, {name}", one["p50"], one["p95"], one["n"]] for name, one in told["search_ms"].items()]
    lines.append(["of which the question's vector", *(told["embed_question_ms"][x] for x in ("p50", "p95", "n"))])
    lines.append(["add one turn, with its vector", *(told["add_ms"][x] for x in ("p50", "p95", "n"))])
    size = f"The store takes {told['store_bytes'] / MIB:.1f} MiB for {told['text_bytes'] / MIB:.2f} MiB of text."
    return f"{table(['milliseconds', 'p50', 'p95', 'n'], lines)}\n\n{size}"


def scale(told: Row) -> str:
    rows = {f"search, {by}": one for by, one in told["search_ms"].items()} | {"add one turn, with its vector": told["add_ms"]}
    lines = [[name, *(one.get(x, "–") for x in ("p50", "p95", "n", "first", "processor"))] for name, one in rows.items()]
    p95 = told["search_ms"]["both"]["p95"]
    goal = f"Goal, search p95 under 30 ms: {'met' if p95 < 30 else 'missed'} ({p95} ms)."
    size = f"{told['bytes'] / MIB:.0f} MiB on disk; {told['bulk_seconds']} s to add them in groups."
    head = f"## {told['count']:,} memories of one user"
    return f"{head}\n\n{table(['milliseconds', 'p50', 'p95', 'n', 'first', 'processor (median)'], lines)}\n\n{goal} {size}"


def peer(told: Row) -> str:
    head = "## Beside mem0ai 2.2.1, no language model (`infer=False`)"
    if "error" in told:
        return f"{head}\n\nNot compared: {told['error']}"
    what = (
        "The same turns one by one, the same MiniLM weights, one side after the other in one run. mem0ai stores vectors in Qdrant's "
        "in-process store and joins them with fastembed's BM25 (no stop words: its list needs a download). Its entity links and lemmas "
        "need spaCy's en_core_web_sm, which no package index has under its authors' name; without it the package leaves them out."
    )
    return f"{head}\n\n{what}\n\n{_beside(told)}"


def peer_facts(told: Row) -> str:
    head = "## Beside mem0ai 2.2.1, facts extracted by the same model (qwen)"
    if "error" in told:
        return f"{head}\n\nNot compared: {told['error']}"
    ours, theirs = told["ours"], told["mem0ai"]
    what = f"{told['turns']} turns, two a call; mem0ai asks the model through `bay serve`. Its memories rest on the turns of their call."
    if failed := ours.get("error") or theirs.get("error"):
        return f"{head}\n\n{what} Not compared: {failed}"
    said = f"{ours['as_said']} of" if "as_said" in ours else "among"
    made = (
        f"Memories made: {ours['made']} by `mem0`, {theirs['made']} by mem0ai. Turns of which the model made no fact that they bear out "
        f"are kept as said; they are {said} those of `mem0`. Errors of mem0ai: {len(theirs['errors'])}."
    )
    return f"{head}\n\n{what}\n\n{_beside(told)}\n\n{made}"


def _beside(told: Row) -> str:
    ours, theirs = told["ours"], told["mem0ai"]
    lines = [
        [f"evidence recall@{k}", shown(ours["recall"][str(k)]), shown(theirs["recall"][str(k)]), _signed(_over(ours, theirs, k))]
        for k in DEPTHS
    ]
    for what in ("search", "add"):
        a, b = ours[f"{what}_ms"], theirs[f"{what}_ms"]
        lines += [[f"{what} ms, {at}", a[at], b[at], f"{ratio(b, a, at)} times faster"] for at in ("p50", "p95")]
    return table([f"n={told['n']}", "Baywindow", "mem0ai", "difference or ratio"], lines)


def _over(ours: Row, theirs: Row, k: int) -> list[float]:
    return difference(ours["recall"][str(k)], theirs["recall"][str(k)])


def _signed(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean, low, high = interval(values)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


# Systems


def systems(rows: Sequence[Row], history: dict[tuple[str, str], int]) -> list[str]:
    """One table a model and kind of set."""
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["model"], row["set"].split()[0]].append(row)
    made = []
    for (model, kind), mine in grouped.items():
        names = {row["set"] for row in mine}
        tokens = statistics.fmean(history[model, name] for name in names)
        lines = [
            _system_line(name, [r for r in mine if r["system"] == name], tokens, _over_history(name, mine))
            for name in dict.fromkeys(r["system"] for r in mine)
        ]
        head = ["system", "n", "F1, 1–4", "over `full_history`", *(f"F1 {name}" for name in KINDS.values()), "evidence@10"]
        head += ["turns under @10", "evidence shown", "prompt tokens", "of history"]
        told = f"## Systems with {model}, {_what(kind, names)}\n\nThe whole history is {tokens:,.0f} tokens."
        made.append(f"{told}\n\n{table([*head, 'calls', 'seconds to add'], [line for line in lines if line])}")
    return [*made, _legend()] if made else []


def _what(kind: str, names: set[str]) -> str:
    listed = ", ".join(sorted(name.split()[1] for name in names))
    return f"the first sessions of conversation {listed}" if kind == "beginning" else f"whole conversations ({listed})"


def _legend() -> str:
    return (
        "F1 is LoCoMo's own; of category 5 it is the share of questions refused. *turns under @10*: on how many turns the ten memories "
        "rest; a summary that rests on all of them finds all evidence by that alone. `last_turns` and `full_history` have no search of "
        "their own: there it is the room's, over turns. *evidence shown*: in the prompt. `full_history` is cut to the newest 4,096 "
        "tokens; the others show at most 800. *over `full_history`*: F1 of categories 1 to 4, on the questions "
        "that both answered, paired. †: some systems ran at a time, so these seconds are not to be compared with the others."
    )


def _over_history(name: str, rows: Sequence[Row]) -> str:
    """How much better a system answers than the newest part of the history that the window holds."""
    scores = {(r["system"], r["set"], r["id"]): r["score"] for r in rows if "score" in r and r["category"] != 5}
    whole = {tuple(of): score for (system, *of), score in scores.items() if system == "full_history"}
    both = [score - whole[tuple(of)] for (system, *of), score in scores.items() if system == name and tuple(of) in whole]
    return "–" if name == "full_history" else _signed(both)


def _system_line(name: str, rows: Sequence[Row], history: float, over: str) -> list[object]:
    read = [row for row in rows if row["id"] == "read"]
    failed = [row["error"] for row in rows if "error" in row]
    good = [row for row in rows if "score" in row]
    if not good:
        return [f"`{name}`", 0, failed[0] if failed else "not reached", *["–"] * 13] if read or failed else []
    answerable = [row for row in good if row["category"] != 5]
    by_kind = [_mean([row["score"] for row in good if row["category"] == category]) for category in KINDS]
    prompt = statistics.fmean(row["prompt_tokens"] for row in good)
    return [
        f"`{name}`",
        len(good),
        shown([row["score"] for row in answerable]) if answerable else "–",
        over,
        *by_kind,
        *(_mean([row[x] for row in good if row[x] is not None]) for x in ("found", "found_turns", "shown")),
        f"{prompt:,.0f}",
        f"{prompt / history:.0%}",
        sum(row.get("calls", 0) for row in read),
        f"{sum(sum(row.get('seconds', ())) for row in read):.0f}{'†' if any(row.get('at_once', 1) > 1 for row in read) else ''}",
    ]


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ({len(values)})" if values else "–"
