"""Questions with the paragraphs that answer them, from SQuAD's or HotpotQA's own files."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from baywindow.bench.tasks._invented import Item
from baywindow.errors import SourceError

FILES = {
    "squad": ("squad.json", "dev-v2.0.json", "dev-v1.1.json"),
    "hotpotqa": ("hotpotqa.json", "hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json"),
}


def from_file(dataset: str, place: Path) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Items and all paragraphs of ``squad`` or ``hotpotqa``; SourceError if there is no such file or it has another form."""
    names = FILES[dataset]
    path = next((place / name for name in names if (place / name).is_file()), None) if place.is_dir() else place
    if path is None or not path.is_file():
        raise SourceError(f"no {dataset} data at {place}", hint=f"a file, or a folder that holds {' or '.join(names)}")
    return _read(dataset, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(dataset: str, path: Path, changed: int) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        items, paragraphs = _squad(data) if dataset == "squad" else _hotpot(data)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not {dataset} data: {error}", hint="the official JSON file of the development set") from error
    if not items:
        raise SourceError(f"{path} holds no question with an answer", hint="the official JSON file of the development set")
    return items, paragraphs


def _squad(data: dict[str, Any]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    items, every = [], {}
    for article in data["data"]:
        paragraphs = [p["context"] for p in article["paragraphs"]]
        every.update(dict.fromkeys(paragraphs))
        for paragraph in article["paragraphs"]:
            near = tuple(text for text in paragraphs if text != paragraph["context"])
            for asked in paragraph["qas"]:
                answers = tuple(dict.fromkeys(answer["text"] for answer in asked["answers"]))
                if answers and not asked.get("is_impossible", False):
                    items.append(Item(asked["question"], answers, (paragraph["context"],), near))
    return tuple(items), tuple(sorted(every))


def _hotpot(data: list[dict[str, Any]]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    items, every = [], {}
    for row in data:
        titled = {title: f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]}
        every.update(dict.fromkeys(titled.values()))
        supports = {title for title, _ in row.get("supporting_facts", [])} & set(titled) or set(titled)
        needed = tuple(text for title, text in titled.items() if title in supports)
        items.append(Item(row["question"], (row["answer"],), needed, tuple(t for title, t in titled.items() if title not in supports)))
    return tuple(items), tuple(sorted(every))
