"""The stored index: kept up to date, limited to what was asked, honest about what it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from baywindow.context.retrieve.hybrid import Hybrid
from baywindow.documents.chunks import Chunk
from baywindow.documents.index import Index
from baywindow.documents.index import update as update_module
from baywindow.documents.index.lock import writing
from baywindow.documents.index.nearest import Approximate, Flat, build_approximate, load_flat
from baywindow.documents.index.places import Places
from baywindow.documents.index.rows import chunk_rows, vector_rows
from baywindow.documents.index.store import Store
from baywindow.documents.index.view import View
from baywindow.documents.sources import open_corpus
from baywindow.errors import IndexBusyError, IndexStoreError, Interrupted, SourceError


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)


def sources(index: Index) -> list[str]:
    return sorted({Path(p.source).name for p in index.passages()})


def test_only_what_changed_is_read_again(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d", a="alpha", b="beta", c="gamma")
    index = Index(embedder=embedder)
    assert index.update([tmp_path / "d"]).added == 3
    index.embed()
    read: list[str] = []
    real = update_module.extract
    monkeypatch.setattr(update_module, "extract", lambda path: (read.append(path.name), real(path))[1])
    assert index.update([tmp_path / "d"]).unchanged == 3
    write(tmp_path / "d", b="beta changed", e="new")
    os.utime(tmp_path / "d" / "a.txt", ns=(1, 1))  # another time, the same content
    (tmp_path / "d" / "c.txt").unlink()
    done = index.update([tmp_path / "d"])
    assert (done.added, done.changed, done.removed, done.unchanged) == (1, 1, 1, 1)
    assert sorted(read) == ["b.txt", "e.txt"]
    assert sources(index) == ["a.txt", "b.txt", "e.txt"]
    assert [p.text for p in index.full_text("beta", 5)] == ["beta changed"]
    assert index.full_text("gamma", 5) == []
    assert index.update([tmp_path / "d"]).unchanged == 3
    embedder.texts.clear()
    index.embed()
    assert sorted(embedder.texts) == ["beta changed", "new"]


def test_vectors_of_deleted_chunks_are_never_found(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha one", b="beta two")
    index = Index(embedder=embedder)
    index.update([tmp_path / "d"])
    index.embed()
    write(tmp_path / "d", a="something else now")
    index.update([tmp_path / "d"])
    index.embed()
    assert {p.text for p in index.vectors("alpha one", 10)} == {"something else now", "beta two"}


@pytest.mark.parametrize("unfinished", [0, 3])
def test_rows_of_an_unfinished_file_take_no_place_from_others(tmp_path: Path, embedder, unfinished: int) -> None:
    write(
        tmp_path / "d",
        a="alpha and a good many other words",
        b="alpha beside very different, longer, additional content: paragraphs, tables, figures",
    )
    index = Index(embedder=embedder)
    index.update([tmp_path / "d"])
    chunks = [Chunk("alpha", n, n + 5, "", 1, None, "") for n in range(unfinished)]  # nearer to the question than what is whole
    if chunks:
        index._store.table("chunks").add(chunk_rows(99, 0, chunks))
    index.refresh()
    found = Index(embedder=embedder).full_text("alpha", 1)
    assert [Path(p.source).name for p in found] == ["a.txt"]
    view = View(Store(index.info().uri), None)
    assert view._leftovers == unfinished == view._places.strays(view.numbers)
    assert View(Store(index.info().uri), [str(tmp_path / "d" / "a.txt")])._leftovers == 0  # its condition leaves them out


def test_a_search_is_limited_to_what_was_asked(tmp_path: Path, embedder) -> None:
    write(tmp_path / "one", a="rose in one")
    write(tmp_path / "two", a="rose in two")
    write(tmp_path / "two_more", a="rose in two more")
    for name in ("one", "two", "two_more"):
        assert len(open_corpus(str(tmp_path / name), embedder=embedder).full_text("rose", 9)) == 1
    corpus = open_corpus(str(tmp_path / "two"), embedder=embedder)
    assert [p.text for p in corpus.full_text("rose", 9)] == ["rose in two"]
    assert [p.text for p in corpus.vectors("rose", 9)] == ["rose in two"]
    assert [p.text for p in corpus.passages()] == ["rose in two"]
    with pytest.raises(SourceError):
        corpus.excerpt(str(tmp_path / "one" / "a.txt"), 0, 4)
    assert corpus.characters == len("rose in two")


def test_better_hits_elsewhere_do_not_crowd_out_what_was_asked(tmp_path: Path, embedder) -> None:
    write(tmp_path / "loud", **{f"f{n}": "rose rose rose" for n in range(150)})
    write(tmp_path / "quiet", a="one rose among many other words that stand in this line")
    open_corpus(str(tmp_path / "loud"), embedder=embedder)
    corpus = open_corpus(str(tmp_path / "quiet"), embedder=embedder)
    assert [Path(p.source).parent.name for p in corpus.full_text("rose", 1)] == ["quiet"]
    assert [Path(p.source).parent.name for p in corpus.vectors("rose", 1)] == ["quiet"]


def test_half_an_embedding_is_enough_to_answer_and_said(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", **{f"f{n}": f"filler number {n}" for n in range(30)}, gold="the treasure lies under the oak")
    corpus = Index(embedder=embedder, catch_up_seconds=0)
    corpus.update([tmp_path / "d"])
    found = corpus.vectors("treasure under oak", 3)
    assert found[0].text.startswith("the treasure")
    assert "0 of 31 chunks have vectors" in corpus.notes[-1]
    fresh = Index(embedder=embedder)  # is allowed to catch up
    assert fresh.vectors("treasure under oak", 3)[0].text.startswith("the treasure")
    assert len(fresh.vectors("treasure under oak", 99)) == 31
    assert not fresh.notes


def test_embedding_resumes_where_it_ended(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baywindow.documents.index.embed.GROUP", 4)
    write(tmp_path / "d", **{f"f{n}": f"text {n}" for n in range(10)})
    told: list[str] = []
    index = Index(embedder=embedder, on_progress=told.append)
    index.update([tmp_path / "d"])
    assert index.embed(seconds=0) == 6
    real = embedder.embed

    def stopped(texts, kind="passage"):
        if len(embedder.texts) >= 8:
            raise KeyboardInterrupt
        return real(texts, kind)

    monkeypatch.setattr(embedder, "embed", stopped)
    with pytest.raises(Interrupted):
        index.embed()
    monkeypatch.setattr(embedder, "embed", real)
    assert index.embed() == 0
    assert len(embedder.texts) == 10  # none twice
    assert index.info().roots[0].embedded_share == 1.0


def test_info_and_remove(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha", b="beta")
    write(tmp_path / "e", secret="hidden-treasure-map")
    index = Index(tmp_path / "index", embedder=embedder)
    assert not index.info().exists
    index.update([tmp_path / "d", tmp_path / "e"])
    index.embed()
    info = index.info()
    assert (info.files, info.chunks, info.embedder) == (3, 3, "hashed")
    assert [(r.path, r.files, r.chunks, r.embedded_share) for r in info.roots] == [
        (str(tmp_path / "d"), 2, 2, 1.0),
        (str(tmp_path / "e"), 1, 1, 1.0),
    ]
    assert info.size_bytes is not None
    assert info.size_bytes > 1000
    assert abs(info.roots[0].updated_at - time.time()) < 60
    assert index.remove(tmp_path / "e") == 1
    assert sources(index) == ["a.txt", "b.txt"]
    assert [r.path for r in index.info().roots] == [str(tmp_path / "d")]
    with pytest.raises(SourceError, match="not in the index"):
        index.remove(tmp_path / "e")


def test_another_embedder_or_chunk_size_needs_consent(tmp_path: Path, make_embedder) -> None:
    write(tmp_path / "d", a="alpha", b="beta")
    first = Index(embedder=make_embedder("first"))
    first.update([tmp_path / "d"])
    first.embed()
    second = Index(embedder=make_embedder("second"))
    with pytest.raises(IndexStoreError, match="embedder first, this run uses second"):
        second.update([tmp_path / "d"])
    with pytest.raises(IndexStoreError, match="embedder first"):
        second.vectors("alpha", 1)
    with pytest.raises(IndexStoreError, match="chunks of 256 tokens"):
        Index(embedder=make_embedder("first"), chunk_tokens=64).update([tmp_path / "d"])
    assert [p.text for p in first.full_text("alpha", 1)] == ["alpha"]
    write(tmp_path / "e", c="gamma")
    second.update([tmp_path / "e"], rebuild=True)  # the other root is read again too
    second.embed()
    assert sources(second) == ["a.txt", "b.txt", "c.txt"]
    assert second.info().embedder == "second"


def test_an_index_of_another_version_says_so(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha")
    index = Index(embedder=embedder)
    index.update([tmp_path / "d"])
    store = Store()
    store.set_about(replace(store.about(), format=99))
    for act in (lambda: Index().full_text("alpha", 1), lambda: Index().update([tmp_path / "d"])):
        with pytest.raises(IndexStoreError, match=r"another version.*99") as error:
            act()
        assert "--rebuild" in error.value.hint
    Index(embedder=embedder).update([tmp_path / "d"], rebuild=True)
    assert [p.text for p in Index().full_text("alpha", 1)] == ["alpha"]


def test_a_damaged_index_is_one_line(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha")
    index = Index(tmp_path / "i", embedder=embedder)
    index.update([tmp_path / "d"])
    for path in (tmp_path / "i" / "chunks.lance").rglob("*"):
        if path.is_file():
            path.write_bytes(b"rubbish")
    with pytest.raises(IndexStoreError, match="cannot be used") as error:
        Index(tmp_path / "i", embedder=embedder).full_text("alpha", 1)
    assert "\n" not in str(error.value)
    Index(tmp_path / "i", embedder=embedder).update([tmp_path / "d"], rebuild=True)
    assert len(Index(tmp_path / "i").full_text("alpha", 1)) == 1


def test_a_second_writer_learns_who_is_first(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha")
    write(tmp_path / "e", a="beta")
    uri = str(tmp_path / "index")
    index = Index(uri, embedder=embedder)
    index.update([tmp_path / "d"])
    code = (
        "import sys; from baywindow.documents.index.lock import writing\n"
        "with writing(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(IndexBusyError, match=f"process {other.pid} is writing"):
            index.update([tmp_path / "e"])
        assert [p.text for p in Index(uri).full_text("alpha", 1)] == ["alpha"]  # readers need no lock
        other.communicate("")
    with writing(uri):  # free again
        pass


def test_bad_files_in_a_folder_are_passed_over_and_named(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha")
    (tmp_path / "d" / "b.pdf").write_bytes(b"%PDF-1.4 rubbish")
    (tmp_path / "d" / "c.bin").write_bytes(b"\0" * 100)
    corpus = open_corpus(str(tmp_path / "d"), embedder=embedder)
    assert "passed over 1 binary file" in corpus.notes
    assert any("b.pdf is not a readable PDF" in note for note in corpus.notes)
    for name, words in (("b.pdf", "not a readable PDF"), ("c.bin", "binary file"), ("none.txt", "no file or folder")):
        with pytest.raises(SourceError, match=words):
            open_corpus(str(tmp_path / "d" / name), embedder=embedder)


def test_an_empty_folder_is_an_error_and_harms_nothing(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="alpha")
    open_corpus(str(tmp_path / "d"), embedder=embedder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no text in"):
        open_corpus(str(tmp_path / "empty"), embedder=embedder)
    assert len(Index().full_text("alpha", 2)) == 1


def test_a_long_file_streams_and_is_the_same(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_module, "COMMIT_CHARACTERS", 5_000)
    monkeypatch.setattr(update_module, "STREAM_CHUNKS", 16)
    monkeypatch.setattr("baywindow.documents.extract.text.BLOCK_CHARACTERS", 2_000)
    text = "".join(f"Sentence number {n} stands here.\n" for n in range(2000)) + "  \n"
    write(tmp_path / "d", long=text, short="short")
    index = Index(embedder=embedder, chunk_tokens=32)
    index.update([tmp_path / "d"])
    long = str(tmp_path / "d" / "long.txt")
    assert index.excerpt(long, 0, len(text)) == text
    assert all(text[p.start : p.end] == p.text for p in index.passages() if p.source == long)
    assert index.info().chunks == len(list(index.passages())) > 400


def test_ctrl_c_while_reading_leaves_a_good_index(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_module, "COMMIT_SECONDS", 0.0)
    write(tmp_path / "d", **{f"f{n}": f"text {n}" for n in range(6)})
    real = update_module.extract

    def stopped(path: Path):
        if path.name == "f3.txt":
            raise KeyboardInterrupt
        return real(path)

    index = Index(embedder=embedder)
    monkeypatch.setattr(update_module, "extract", stopped)
    with pytest.raises(Interrupted, match="keeps what was finished"):
        index.update([tmp_path / "d"])
    assert sources(index) == ["f0.txt", "f1.txt", "f2.txt"]
    monkeypatch.setattr(update_module, "extract", real)
    done = index.update([tmp_path / "d"])
    assert (done.added, done.unchanged) == (3, 3)


def test_approximate_search_is_measured_and_good(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "i")
    table = store.vectors(16)
    assert table is not None
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(3000, dtype=np.int64) + (1 << 24)
    table.add(vector_rows(ids, vectors))
    nprobes, recall = build_approximate(table)
    assert recall >= 0.95
    # The oracle is a plain product, not the module's own flat search.
    search = Approximate(table, Places(table), nprobes, None)
    hits = 0
    for query in vectors[:50]:
        best = set(ids[np.argsort(-(vectors @ query))[:10]].tolist())
        hits += len(best & {i for i, _ in search.search(query, 10)[:10]})
    assert hits >= 0.9 * 500
    flat = load_flat(table, None, None)
    assert isinstance(flat, Flat)
    assert [i for i, _ in flat.search(vectors[7], 5)] == ids[np.argsort(-(vectors @ vectors[7]))[:5]].tolist()


def test_tidying_leaves_the_partitions_small(tmp_path: Path) -> None:
    store = Store(tmp_path / "i")
    table = store.vectors(16)
    assert table is not None
    vectors = np.random.default_rng(1).standard_normal((3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table.add(vector_rows(np.arange(3000, dtype=np.int64) + (1 << 24), vectors))
    build_approximate(table)
    store.tidy("vectors")
    store.tidy("vectors")
    store.refresh()
    table = store.vectors()
    seen = [len(Approximate(table, Places(table), 1, None).search(query, 3000)) for query in vectors[:20]]
    assert max(seen) < 600  # a probe reads one of some 55 partitions, where LanceDB would by itself have made one of all


def test_both_halves_at_once_are_those_of_each_alone_and_read_once(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d", **{f"f{n}": f"rose number {n} stands by tree {n % 7}" for n in range(40)})
    write(tmp_path / "e", far="rose number 3 elsewhere")
    open_corpus([str(tmp_path / "d"), str(tmp_path / "e")], embedder=embedder).vectors("rose", 1)
    corpus = open_corpus(str(tmp_path / "d"), embedder=embedder)
    read: list[int] = []
    real = Places.fetched
    monkeypatch.setattr(Places, "fetched", lambda self, ids, columns: (read.append(len(ids)), real(self, ids, columns))[1])
    words, meaning = corpus.hits("number 3 rose", 9)
    assert read == []
    assert corpus.fetched(words) == corpus.full_text("number 3 rose", 9)
    assert corpus.fetched(meaning) == corpus.vectors("number 3 rose", 9)
    assert {Path(p.source).parent.name for p in corpus.fetched([*words, *meaning])} == {"d"}
    assert {place for place, _ in words} & {place for place, _ in meaning}  # the same chunk is the same place in both
    read.clear()
    found = Hybrid(k=4).retrieve(SimpleNamespace(corpus=corpus), "number 3 rose", None)
    assert read == [4]
    assert found[0].text == "rose number 3 stands by tree 3"
    assert corpus.fetched([]) == []


def test_places_of_a_file_that_has_gone_are_left_out(tmp_path: Path, embedder) -> None:
    write(tmp_path / "d", a="rose one", b="rose two", c="rose three")
    index = Index(embedder=embedder)
    index.update([tmp_path / "d"])
    index.embed()
    words, meaning = index.hits("rose", 9)
    assert len(words) == len(meaning) == 3
    write(tmp_path / "d", b="rose two, rewritten")
    index.update([tmp_path / "d"])
    assert {p.text for p in index.fetched([*words, *meaning])} == {"rose one", "rose three"}
    index._catch_up_seconds = 0
    half = Index(embedder=embedder, catch_up_seconds=0).hits("rose", 9)  # one chunk has no vector: it is compared now
    assert [{p.text for p in index.fetched(part)} for part in half] == [{"rose one", "rose three", "rose two, rewritten"}] * 2


def test_above_the_limit_the_index_searches_approximately(tmp_path: Path, embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baywindow.documents.index.writer.FLAT_LIMIT", 300)
    monkeypatch.setattr("baywindow.documents.index.view.FLAT_LIMIT", 300)
    write(tmp_path / "d", **{f"f{n}": f"word{n} word{n * 7} and word{n * 13}" for n in range(400)})
    told: list[str] = []
    index = Index(embedder=embedder, on_progress=told.append)
    index.update([tmp_path / "d"])
    index.embed()
    assert index.info().recall_at_10 >= 0.95
    assert any("recall@10" in text for text in told)
    assert index.vectors("word11 word77 and word143", 1)[0].text == "word11 word77 and word143"
    write(tmp_path / "d", f11="changed entirely")
    index.update([tmp_path / "d"])
    index.embed()
    assert "word11 word77 and word143" not in {p.text for p in index.vectors("word11 word77 and word143", 20)}
    assert index.vectors("changed entirely", 1)[0].text == "changed entirely"
