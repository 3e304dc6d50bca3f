"""What every suite of the bench promises, checked for all of them: names, lengths, determinism, and who scores what."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from baywindow.bench import find
from baywindow.bench.base import Generated, Loaded, Order, Sample, Task
from baywindow.bench.counting import TOLERANCE, TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.errors import ConfigError

GENERATED = [t for suite in find.suites().values() for t in suite.tasks if isinstance(t, Generated)]
NAMES = [t.name for t in GENERATED]
LENGTHS = (0, 1024, 4096, 32768)  # 0: the task's own minimum
PIECES = re.compile(r"\s?[A-Za-z]{1,6}|\d|[^\w\s]|\n+|\w")


def pieces(text: str) -> int:
    """A stand-in tokenizer as fine as real ones: up to six letters, a digit, a sign or a run of line breaks is a token."""
    return sum(1 for _ in PIECES.finditer(text))


@functools.cache
def counter() -> TokenCounter:
    return TokenCounter(pieces, "pieces")


@functools.cache
def made(name: str, tokens: int, seed: int) -> Sample:
    task = by_name(name)
    return task.sample(order(tokens or task.min_tokens, seed))


def order(tokens: int, seed: int) -> Order:
    return Order(tokens=tokens, seed=seed, counter=counter(), haystack=Haystack.installed())


def by_name(name: str) -> Generated:
    return next(t for t in GENERATED if t.name == name)


def combinations(lengths: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    return ((t.name, n) for t in GENERATED for n in lengths if n == 0 or n > t.min_tokens)


def test_names_are_unique_and_scorers_exist():
    every: list[Task] = [t for suite in find.suites().values() for t in suite.tasks]
    assert len({t.name for t in every}) == len(every) > 30
    for task in every:
        assert find.scorer(task.scorer)
        assert task.summary
        assert isinstance(task, Generated | Loaded)
        assert 0 < task.max_new_tokens <= 65536
        json.dumps(dict(task.options))


@pytest.mark.parametrize("suite", find.suites().values(), ids=lambda s: s.name)
def test_every_suite_says_what_it_is(suite):
    assert suite.summary
    assert suite.paper
    assert suite.year > 2015
    assert suite.claim
    assert all(departure.strip() for departure in suite.departures)


@pytest.mark.parametrize(("name", "tokens"), list(combinations(LENGTHS)))
def test_the_length_is_exact(name, tokens):
    sample = made(name, tokens, 0)
    wanted = tokens or by_name(name).min_tokens
    length = pieces(sample.prompt)
    assert (1 - TOLERANCE) * wanted <= length <= wanted
    assert sample.metadata["tokens"] == length


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_length_is_exact_at_128k(name):
    length = pieces(made(name, 131072, 0).prompt)
    assert (1 - TOLERANCE) * 131072 <= length <= 131072


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_complete(name):
    one, two = made(name, 4096, 0), made(name, 4096, 1)
    assert one.id != two.id
    assert one.id != made(name, 0, 0).id or by_name(name).min_tokens == 4096
    assert one.prompt != two.prompt
    assert one.metadata["seed"] == 0
    assert one.metadata["task"] == name
    assert json.loads(json.dumps(dict(one.metadata))) == dict(one.metadata)
    assert len({d.source for d in one.documents}) == len(one.documents) > 0
    for turn in one.asked:
        assert turn.gold
        assert turn.question.strip()
        assert find.scorer(turn.scorer)
        json.dumps(dict(turn.metadata))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_order_gives_the_same_sample(name):
    task = by_name(name)
    assert task.sample(order(4096, 5)) == task.sample(order(4096, 5))
    warm = task.sample(Order(tokens=4096, seed=5, counter=TokenCounter(pieces, "new"), haystack=Haystack.installed()))
    assert warm == task.sample(order(4096, 5))  # what the counter remembers does not matter


@pytest.mark.slow
def test_the_same_order_gives_the_same_sample_in_another_process():
    """Hashes of strings differ between processes; nothing may depend on them."""
    code = (
        "import hashlib, importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('suites', {__file__!r})\n"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)\n"
        "for name in m.NAMES: print(name, hashlib.sha256(m.made(name, 0, 2).prompt.encode()).hexdigest())\n"
    )
    seen = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    ]
    assert seen[0] == seen[1]
    assert len(seen[0].splitlines()) == len(NAMES)


def perfect(turn) -> str:
    """Says the gold, as the task wants it said: joined, or as the turn's own ``perfect`` where gold is no text to say."""
    return str(turn.metadata.get("perfect", ", ".join(turn.gold)))


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_answerer_scores_one_and_a_silent_one_zero(name):
    for seed in (0, 1):
        for turn in made(name, 4096, seed).asked:
            assert find.score(perfect(turn), turn) == pytest.approx(1.0)
            assert find.score("", turn) == find.score(" \n ", turn) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answerer_scores_low(name):
    scores = [find.score("qqq zzz", turn) for seed in range(3) for turn in made(name, 4096, seed).asked]
    assert sum(scores) / len(scores) < 0.5


@pytest.mark.parametrize("name", [t.name for t in GENERATED if t.has_depth])
def test_depth_is_kept(name):
    for depth in (0.0, 1.0):
        sample = by_name(name).sample(Order(tokens=4096, seed=0, counter=counter(), haystack=Haystack.installed(), depth=depth))
        assert sample.metadata["depth"] == pytest.approx(depth, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_too_short_a_length_is_refused(name):
    with pytest.raises(ConfigError, match="needs at least"):
        made(name, by_name(name).min_tokens - 1, 0)


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"ruler\.vt"):
        find.tasks("ruler.vtt")
    assert [t.name for t in find.tasks("ruler.niah_single_*")] == [f"ruler.niah_single_{i}" for i in (1, 2, 3)]
    assert len(find.tasks("ruler")) == 13
