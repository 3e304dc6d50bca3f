"""Answers on real documents: how often right, how often the quoted words hold the gold, how often "not found" is right or wrong.

    python benchmarks/ask.py [--hours 1.5] [--models embedded,qwen] [--recipe "hybrid > rag"] [--fresh]

Sets (from the shared data; n is what the hours allow, at most all):
  natural_question      L-Eval documents of some 100,000 characters; right = the answer holds the gold string
  locomo                conversations, categories 1 to 4: asked of one conversation; token F1, and false "not found"
  locomo adversarial    category 5: not answerable as asked; right = "not found"

Resumable: every answer is kept as it comes; the same command goes on where it stopped. Questions of all sets and models take
turns, so that a run that is stopped early is balanced.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from _models import path_of
from _report import table
from _rows import ROWS, Rows, normalised, shared_data, shown, write

from baywindow.context.ask import ask
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.errors import BayError
from baywindow.models import select
from baywindow.models.base import LanguageModel
from baywindow.models.embedders import default_embedder
from baywindow.recipe import parse
from baywindow.trace import Answer

SETS = ("natural_question", "locomo", "locomo adversarial")


@dataclass(frozen=True)
class Question:
    set: str
    id: str
    text: str
    gold: str
    document: str


def natural_questions() -> tuple[dict[str, Document], list[Question]]:
    documents, questions = {}, []
    lines = (shared_data() / "leval" / "natural_question.jsonl").read_text(encoding="utf-8").splitlines()
    for d, line in enumerate(lines):
        row = json.loads(line)
        name = f"natural_question-{d}"
        documents[name] = Document(text=row["input"], source=name)
        for q, (text, gold) in enumerate(zip(row["instructions"], row["outputs"], strict=True)):
            questions.append(Question("natural_question", f"{d}.{q}", text, gold, name))
    # One question of each document in turn, so that a part of the set covers many documents.
    return documents, sorted(questions, key=lambda x: int(x.id.split(".")[1]))


def locomo() -> tuple[dict[str, Document], list[Question]]:
    documents, questions = {}, []
    for path in sorted((shared_data() / "locomo").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        conversation = row.get("conversation", row)
        name = f"locomo-{path.stem}"
        documents[name] = Document(text=as_text(conversation), source=name)
        for q, item in enumerate(row["qa"]):
            adversarial = item["category"] == 5
            gold = "" if adversarial else str(item["answer"])
            questions.append(Question(SETS[2] if adversarial else SETS[1], f"{path.stem}.{q}", item["question"], gold, name))
    by_turn = sorted(questions, key=lambda x: (hash_order(x.id), x.id))
    return documents, by_turn


def hash_order(text: str) -> int:
    """A fixed shuffle, so that a part of the set mixes conversations and categories."""
    return sum((i + 1) * ord(c) * 7919 for i, c in enumerate(text)) % 1009


def as_text(conversation: dict) -> str:
    """A conversation as a person would read it: sessions with their dates, one turn a line."""
    lines = []
    n = 1
    while f"session_{n}" in conversation:
        lines.append(f"\n## Session {n}, {conversation.get(f'session_{n}_date_time', 'undated')}\n")
        for turn in conversation[f"session_{n}"]:
            caption = f" [shares a picture: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            lines.append(f"{turn['speaker']}: {turn['text']}{caption}")
        n += 1
    return "\n".join(lines)


def f1(answer: str, gold: str) -> float:
    said, wanted = normalised(answer).split(), normalised(gold).split()
    same = sum((Counter(said) & Counter(wanted)).values())
    return 2 * same / (len(said) + len(wanted)) if same else 0.0


def judged(question: Question, answer: Answer) -> dict:
    gold = normalised(question.gold)
    return {
        "found": answer.found,
        "right": bool(gold) and f" {gold} " in f" {normalised(answer.text)} ",
        "f1": f1(answer.text, question.gold) if gold else 0.0,
        "citations": len(answer.citations),
        "quotes_with_gold": sum(f" {gold} " in f" {normalised(c.quote)} " for c in answer.citations) if gold else 0,
        "verified": sum(c.verified for c in answer.citations),
        "seconds": round(answer.usage.seconds, 2),
        "prompt_tokens": answer.usage.prompt_tokens,
        "text": answer.text,
    }


def turns(questions: list[Question]) -> Iterator[Question]:
    """The sets in turn."""
    sets = [[q for q in questions if q.set == name] for name in SETS]
    yield from filter(None, chain.from_iterable(zip_longest(*sets)))


def models(names: list[str]) -> dict[str, LanguageModel]:
    found: dict[str, LanguageModel] = {}
    for name in names:
        path = Path(path_of(name))
        if name == "qwen" and not path.exists():
            print(f"left out: {name} ({path.name} is not in {path.parent})")
            continue
        found[name] = select.load(path_of(name))
    return found


def run(options: argparse.Namespace) -> None:
    nq_documents, nq = natural_questions()
    locomo_documents, talk = locomo()
    documents = {**nq_documents, **locomo_documents}
    recipe = parse(options.recipe)
    rows = Rows(ROWS / "ask.jsonl", key=lambda r: (r["model"], r["fingerprint"], r["recipe"], r["set"], r["id"]))
    if options.fresh:
        rows.path.unlink(missing_ok=True)
        rows = Rows(rows.path, rows._key)
    embedder = default_embedder()
    corpora: dict[str, InMemory] = {}
    loaded = models(options.models.split(","))
    end = time.monotonic() + options.hours * 3600
    done = Counter(r["set"] for r in rows.rows)
    wanted = options.sets.split(",")
    for question in turns([q for q in nq + talk if q.set in wanted]):
        if done[question.set] and options.most and question_index(rows, question, loaded) >= options.most:
            continue
        for name, model in loaded.items():
            key = {"model": name, "fingerprint": model.fingerprint, "recipe": recipe.hash, "set": question.set, "id": question.id}
            if rows.has(key):
                continue
            if time.monotonic() > end:
                break
            if question.document not in corpora:
                corpora[question.document] = InMemory([documents[question.document]], chunk_tokens=256, embedder=embedder)
            try:
                result = judged(question, ask(question.text, corpora[question.document], recipe=recipe, model=model))
            except BayError as error:
                result = {"error": str(error)}
            rows.add({**key, **result})
            print(f"{question.set} {question.id} {name}: {result.get('text', result.get('error'))!r}"[:150], flush=True)
    report(rows, loaded, recipe, options)


def question_index(rows: Rows, question: Question, loaded: dict[str, LanguageModel]) -> int:
    """How many questions of this set every model has answered, without this one."""
    counts = Counter(r["model"] for r in rows.rows if r["set"] == question.set and r["id"] != question.id)
    return min(counts[name] for name in loaded)


def report(rows: Rows, loaded: dict[str, LanguageModel], recipe: object, options: argparse.Namespace) -> None:
    lines, data = [], {}
    for name, model in loaded.items():
        mine = [r for r in rows.rows if r["model"] == name and r["fingerprint"] == model.fingerprint and r["recipe"] == recipe.hash]  # type: ignore[attr-defined]
        good = [r for r in mine if "error" not in r]
        of = {s: [r for r in good if r["set"] == s] for s in SETS}
        nq, talk, adversarial = (of[s] for s in SETS)
        quotes = [r["quotes_with_gold"] / r["citations"] for r in nq if r["citations"]]
        verified = [r["verified"] / r["citations"] for r in good if r["citations"]]
        cells = {
            "right answers, natural_question": shown([r["right"] for r in nq]),
            "answers with a citation, natural_question": shown([bool(r["citations"]) for r in nq]),
            "citations whose quote holds the gold, natural_question": shown(quotes),
            'false "not found", natural_question': shown([not r["found"] for r in nq]),
            "token F1, LoCoMo 1–4": shown([r["f1"] for r in talk]),
            'false "not found", LoCoMo 1–4': shown([not r["found"] for r in talk]),
            '"not found", LoCoMo 5 (right)': shown([not r["found"] for r in adversarial]),
            "quotes that the source holds": shown(verified),
            "errors": str(len(mine) - len(good)),
            "seconds a question, median": f"{sorted(r['seconds'] for r in good)[len(good) // 2]:.1f}" if good else "–",
            "prompt tokens a question, mean": f"{sum(r['prompt_tokens'] for r in good) / len(good):.0f}" if good else "–",
        }
        data[name] = cells
    names = list(data)
    for measure in next(iter(data.values()), {}):
        lines.append([measure, *(data[name][measure] for name in names)])
    label = {name: f"{name} ({Path(loaded[name].name).name})" for name in names}
    body = f"Recipe `{recipe}`. Means with 95 % bootstrap intervals.\n\n" + table(["", *(label[n] for n in names)], lines)
    write(
        "ask",
        "Answers on real documents",
        body,
        {"recipe": str(recipe), "cells": data},
        f"python benchmarks/ask.py --hours {options.hours}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.5, help="stop asking after this time and report what there is")
    parser.add_argument("--models", default="qwen,embedded")
    parser.add_argument("--recipe", default="hybrid > rag(k=3, budget_tokens=900, max_new_tokens=40)")
    parser.add_argument("--most", type=int, default=100, help="at most so many questions a set (0: all)")
    parser.add_argument("--sets", default=",".join(SETS), help="ask only these sets (the report shows all)")
    parser.add_argument("--fresh", action="store_true", help="forget earlier answers")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
