"""What every loaded suite promises, on its fixtures; and how files and the hub are read."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from baywindow.bench import find
from baywindow.bench.base import Loaded
from baywindow.bench.judge import Judge
from baywindow.bench.referees import NEEDS, refereeing
from baywindow.bench.tasks import _hub
from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Row, Source, documents_of, rows_of
from baywindow.errors import SourceError

FIXTURES = Path(__file__).parents[1] / "fixtures"
SUITES = ("longbench", "l_eval", "loogle", "helmet", "inftybench", "lv_eval", "ethic", "locomo", "longmemeval")


def with_fixture() -> list[Loaded]:
    """Tasks whose fixture is there; of HELMET's lengths, which share their readers, the first."""
    find.scorer("exact")  # all metrics are loaded, so that `NEEDS` is whole
    found = []
    for suite in SUITES:
        for task in find.suites()[suite].tasks:
            if suite == "helmet" and not task.name.endswith("_8k"):
                continue
            try:
                next(iter(task.load(FIXTURES / suite)))
            except (SourceError, StopIteration):
                continue
            found.append(task)
    return found


TASKS = with_fixture()


def may_lack_one(name: str) -> bool:
    """Other lengths and forms of what has a fixture, and L-Eval's open sets, which are all read alike."""
    suite, _, subset = name.partition(".")
    other_length = (suite == "lv_eval" and not name.endswith("_16k")) or (suite == "helmet" and not name.endswith("_8k"))
    other_form = (suite == "longbench" and name.endswith("_e")) or (suite == "longmemeval" and subset in ("s", "m"))
    return other_length or other_form or (suite == "l_eval" and subset.endswith(("_qa", "_summ", "_question", "_assistant")))


def test_every_subset_has_a_fixture():
    there = {t.name for t in TASKS}
    assert not {t.name for suite in SUITES for t in find.suites()[suite].tasks if t.name not in there and not may_lack_one(t.name)}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_samples_are_complete(task):
    made = list(task.load(FIXTURES / task.name.partition(".")[0]))
    again = list(task.load(FIXTURES / task.name.partition(".")[0]))
    assert made == again
    assert len({s.id for s in made}) == len(made) > 0
    for i, sample in enumerate(made):
        assert json.loads(json.dumps(sample.metadata)) == sample.metadata
        assert (sample.metadata["task"], sample.metadata["number"]) == (task.name, i)
        assert sample.metadata["cut"] in ("start", "middle", "end")
        assert sample.documents
        assert len({d.source for d in sample.documents}) == len(sample.documents)
        assert sample.context in sample.prompt
        assert "{" not in sample.instruction
        assert sample.question.strip()
        for turn in sample.asked:
            assert turn.gold
            assert turn.max_new_tokens == task.max_new_tokens
            for name in (turn.scorer, *turn.metadata.get("also", ())):
                assert find.scorer(name)


@pytest.mark.parametrize("task", [t for t in TASKS if t.scorer not in NEEDS], ids=lambda t: t.name)
def test_the_answer_scores_1_silence_0_and_nonsense_little(task):
    for sample in task.load(FIXTURES / task.name.partition(".")[0]):
        for turn in sample.asked:
            assert find.score(str(turn.metadata["answer"]), turn) == pytest.approx(1.0), turn
            assert find.score(" \n", turn) == 0.0
            assert find.score("zzz qqq 987654", turn) <= 0.2, turn


@pytest.mark.parametrize("task", [t for t in TASKS if t.scorer in NEEDS], ids=lambda t: t.name)
def test_a_judge_who_agrees_gives_1_and_one_who_does_not_gives_0(task, scripted):
    for said, score in (("yes", 1.0), ("no", 0.0)):
        model = scripted(lambda prompt, said=said: number_for(prompt, said), context_length=100_000)
        with refereeing(judge=Judge(model)):
            for sample in task.load(FIXTURES / task.name.partition(".")[0]):
                reply = "".join(f"{tag} It is told.\n" for tag in sample.metadata.get("sections", {})) or "It is told."
                assert find.score(reply, sample.asked[0]) == pytest.approx(score)
                assert find.score(" ", sample.asked[0]) == 0.0


def number_for(prompt, said):
    """The best or the worst verdict of whatever scale is asked for."""
    task = prompt[0].content
    for low, high in ((1, 5), (0, 3), (0, 100)):
        if f"from {low} to {high}" in task:
            return str(high if said == "yes" else low)
    return said


# -- files ----------------------------------------------------------------------------------------------------------------------------


def test_a_context_of_passages_falls_apart_and_is_joined_again():
    text = "Passage 1:\nOne\ntext.\n\nStill one.\n\nPassage 2:\nTwo."
    parts = documents_of(text, "s")
    assert [d.text for d in parts] == ["Passage 1:\nOne\ntext.\n\nStill one.", "Passage 2:\nTwo."]
    assert "\n\n".join(d.text for d in parts) == text
    assert documents_of("No parts.", "s")[0].source == "s"


def test_rows_are_read_from_lines_lists_and_objects(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": "1\u2028 2"}\n\n{"x": 3}\n', encoding="utf-8")  # U+2028 ends no record
    (tmp_path / "b.json").write_text('[{"x": 1}]')
    (tmp_path / "c.json").write_text('{"data": [{"x": 1}, {"x": 2}]}')
    assert [r.values["x"] for r in rows_of(tmp_path / "a.jsonl")] == ["1\u2028 2", 3]
    assert [r.place for r in rows_of(tmp_path / "a.jsonl")] == ["a.jsonl:1", "a.jsonl:3"]
    assert len(list(rows_of(tmp_path / "b.json"))) == 1
    assert len(list(rows_of(tmp_path / "c.json"))) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("a.jsonl", '{"x": 1}\n{oops', "a.jsonl:2: not JSON"), ("a.jsonl", "3\n", "not a record"), ("a.json", "[1]", "no list of records")],
)
def test_broken_files_say_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        list(rows_of(tmp_path / name))


def test_missing_fields_and_files_say_which(tmp_path):
    with pytest.raises(SourceError, match=r"a\.jsonl:7: field 'context'"):
        Row({"context": None}, "a.jsonl:7").text("context")
    with pytest.raises(SourceError, match=r"no hotpotqa\.jsonl at"):
        list(find.tasks("longbench.hotpotqa")[0].load(tmp_path))
    with pytest.raises(SourceError, match="must be given as local files"):
        list(Source(names=("x",)).rows(None))


def test_the_shallowest_file_is_taken(tmp_path):
    (tmp_path / "deep").mkdir()
    for folder, value in ((tmp_path / "deep", 2), (tmp_path, 1)):
        (folder / "x.jsonl").write_text(json.dumps({"x": value}))
    assert next(Source(names=("x.jsonl",)).rows(tmp_path)).values["x"] == 1


# -- the hub --------------------------------------------------------------------------------------------------------------------------


class Library:
    """What this project uses of ``datasets``; its hub is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = []

    def load_dataset(self, repo, config, *, split):
        self.asked.append((repo, config, split))
        return [{"input": "text"}, {"input": "more"}]

    def DownloadManager(self):
        return self

    def download(self, url):
        self.asked.append(url)
        path = self.folder / Path(url).name
        if not path.is_file():
            raise FileNotFoundError(f"Couldn't find {url}\nlong trace")
        return str(path)


@pytest.fixture
def library(monkeypatch, tmp_path):
    made = Library(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", made)
    monkeypatch.setattr(_hub, "_hub_has", lambda repo: (True, ""))
    return made


def test_a_configuration_is_loaded_by_name(library):
    rows = list(Source(names=(), hub=Hub(repo="a/b", config="c")).rows(None))
    assert [r.text("input") for r in rows] == ["text", "more"]
    assert rows[1].place == "a/b row 2"
    assert library.asked == [("a/b", "c", "test")]


def test_a_member_of_an_archive_is_read_and_nothing_else_is_unpacked(library, tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data/hotpotqa.jsonl", '{"input": "q"}\n')
        archive.writestr("../evil.txt", "x")
    source = Source(names=(), hub=Hub(repo="a/b", file="data.zip", member="data/hotpotqa.jsonl"))
    assert [r.text("input") for r in source.rows(None)] == ["q"]
    assert library.asked == ["hf://datasets/a/b/data.zip"]
    assert not list(tmp_path.parent.rglob("evil.txt"))
    with pytest.raises(SourceError, match="has no data/other"):
        list(Source(names=(), hub=Hub(repo="a/b", file="data.zip", member="data/other")).rows(None))


def test_what_cannot_be_fetched_is_one_error(library, monkeypatch):
    with pytest.raises(SourceError, match="cannot be fetched: Couldn't find"):
        list(Source(names=(), hub=Hub(repo="a/b", file="no.jsonl")).rows(None))
    monkeypatch.setattr(_hub, "offline", lambda: False)
    monkeypatch.setattr(_hub, "_hub_has", lambda repo: (False, "the hub cannot be reached within 3 s"))
    with pytest.raises(SourceError, match="cannot be reached within 3 s"):
        list(Source(names=(), hub=Hub(repo="a/b", file="no.jsonl")).rows(None))


@pytest.mark.slow
def test_the_real_library_loads_a_folder_and_a_file(monkeypatch, tmp_path):
    """The same calls with the real library, a folder in the hub's place."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    repo = tmp_path / "hub" / "a" / "b"
    repo.mkdir(parents=True)
    (repo / "test.jsonl").write_text('{"input": "q"}\n')
    (repo / "one.json").write_text('[{"answer": 2}, {"answer": "two"}]')  # types mixed, as LongMemEval has them
    monkeypatch.setattr(_hub, "FILES", str(tmp_path / "hub"))
    assert [r.text("answer") for r in Source(names=(), hub=Hub(repo="a/b", file="one.json")).rows(None)] == ["2", "two"]
    (repo / "one.json").unlink()
    assert [r["input"] for r in Hub(repo=str(repo)).rows()] == ["q"]
