"""What a model wrote of groups of passages before any question, kept in the user's cache, so that the next question costs no calls.

A text is kept by the model, by what it was asked for, and by the words and places of its passages. Marks are kept as places in the
group: another run numbers passages its own way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from baywindow.context.cite import MARK, marks
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.home import cache_dir
from baywindow.models.fingerprint import write_json

Group = Sequence[Passage]


class KeptTexts:
    """The texts of one run and its predecessors. ``what`` names the prompt and every option that the text depends on."""

    def __init__(self, run: Run, folder: str, what: str) -> None:
        self._run = run
        self._path = cache_dir(folder) / f"{hashlib.sha256(f'{run.model.fingerprint}|{what}'.encode()).hexdigest()[:16]}.json"
        self._texts: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}

    def has(self, group: Group) -> bool:
        return _key(group) in self._texts

    def get(self, group: Group) -> str | None:
        """The text with this run's marks."""
        text = self._texts.get(_key(group))
        return None if text is None else MARK.sub(lambda m: "".join(f"[{self._run.number(group[n - 1])}]" for n in marks(m.group())), text)

    def keep(self, made: Mapping[int, str], groups: Sequence[Group]) -> None:
        """Texts by the number of their group. Marks of passages that are not in the group go."""
        if made:
            self._texts |= {_key(groups[n]): self._placed(text, groups[n]) for n, text in made.items()}
            write_json(self._path, dict(self._texts))

    def _placed(self, text: str, group: Group) -> str:
        known = {p.key for p in self._run.numbered.values()}
        places = {self._run.number(p): i for i, p in enumerate(group, 1) if p.key in known}
        return MARK.sub(lambda m: "".join(f"[{places[n]}]" for n in marks(m.group()) if n in places), text)


def _key(group: Group) -> str:
    return hashlib.sha256("\0".join(f"{p.source}\0{p.start}\0{p.text}" for p in group).encode()).hexdigest()[:32]
