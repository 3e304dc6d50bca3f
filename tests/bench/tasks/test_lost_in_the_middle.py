"""Lost in the Middle: the gold document or key where it was ordered, and the published form of the questions."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.errors import SourceError


def sample(task, tokens=2048, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: len(re.findall(r"\w{1,5}|[^\w\s]|\n", text)), "pieces")
    order = Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options)
    return find.tasks(f"lost_in_the_middle.{task}")[0].sample(order)


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (1.0, -1)])
def test_the_gold_document_stands_where_it_was_ordered(depth, place):
    made = sample("documents", depth=depth)
    subject = re.search(r"the (\w+ \w+)[ ?]", made.question)[1]
    holding = [d.text for d in made.documents if made.gold[0] in d.text]
    assert holding == [made.documents[place].text]
    assert f"(Title: {subject})" in holding[0]
    assert made.metadata["gold_at"] == (0 if place == 0 else len(made.documents) - 1)
    assert [int(re.match(r"Document \[(\d+)\]", d.text)[1]) for d in made.documents] == list(range(1, len(made.documents) + 1))


def test_another_place_is_the_same_question():
    first, last = sample("documents", depth=0.0), sample("documents", depth=1.0)
    assert (first.question, first.gold) == (last.question, last.gold)
    assert {d.text.split("]", 1)[1] for d in first.documents[:-1]} & {d.text.split("]", 1)[1] for d in last.documents[:-1]}


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_key_and_its_value_in_real_json(depth):
    made = sample("key_value", depth=depth)
    data = json.loads(made.context)
    key = re.search(r'Key: "(.+)"', made.question)[1]
    assert data[key] == made.gold[0]
    assert len(data) == made.metadata["pairs"] > 10
    assert abs(list(data).index(key) / (len(data) - 1) - depth) < 0.1


@pytest.mark.parametrize("task", ["documents", "key_value"])
def test_query_aware_asks_before_and_after(task):
    plain, aware = sample(task), sample(task, query_aware=True)
    asked = aware.question.strip()
    assert aware.prompt.count(asked) == 2
    assert plain.prompt.count(asked) == 1
    assert aware.prompt.index(asked) < aware.prompt.index(aware.gold[0])


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("The Ada Lunford.", 1.0),
        ("\n\nIt was ada lunford, I think\nor Max", 1.0),
        ("I am not sure\nAda Lunford", 0.0),
        ("Ada", 0.0),
        ("Lunford the First", 1.0),
    ],
)
def test_the_first_line_counts_by_hand(reply, right):
    turn = Turn(question="", gold=("Ada Lunford", "Lunford the First"), scorer="lost_in_the_middle_first_line")
    assert find.score(reply, turn) == right


def row(n):
    contexts = [{"title": f"Hill {n}{i}", "text": f"Hill {n}{i} is {n * 10 + i} m high. " + "It is often seen. " * 9} for i in range(4)]
    contexts[2]["isgold"] = True
    return {"question": f"How high is hill {n}2?", "answers": [f"{n * 10 + 2} m"], "ctxs": contexts}


@pytest.mark.parametrize("name", ["nq.jsonl", "nq.jsonl.gz"])
def test_the_published_files(tmp_path, name):
    text = "\n".join(json.dumps(row(n)) for n in range(1, 30)).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    made = sample("documents", seed=4, depth=0.0, data=str(tmp_path / name))
    assert made.question.strip() == "Question: How high is hill 52?"
    assert made.documents[0].text.startswith("Document [1](Title: Hill 52) Hill 52 is 52 m high.")
    assert [d.text.split("]")[1][:16] for d in made.documents[1:4]] == [f"(Title: Hill 5{i})"[:16] for i in (0, 1, 3)]  # its own, by rank
    assert sum("52 m high" in d.text for d in made.documents) == 1
    assert made.metadata["data"] == name


def test_files_of_another_form_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no questions at"):
        sample("documents", data=str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(SourceError, match="not of the published form"):
        sample("documents", data=str(tmp_path / "bad.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(SourceError, match="holds no question"):
        sample("documents", data=str(tmp_path / "empty.jsonl"))
