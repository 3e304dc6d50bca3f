"""The document cache: found again across requests and restarts, bounded, whole or absent, and nobody else's."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from baywindow.errors import SourceError
from baywindow.models.base import Message
from baywindow.models.prefixes import State
from baywindow.models.stable import stable_part
from baywindow.models.together import Interleaved
from baywindow.server.engine import Engine
from baywindow.server.keys import Keys
from baywindow.server.prefixes import CacheOptions, PrefixStore
from baywindow.server.prefixes.disk import BESIDE, GONE, Disk
from baywindow.server.prefixes.keys import names_of
from baywindow.server.prefixes.memory import Memory
from baywindow.server.prefixes.store import KeptPrefix, Rates

BOOK = " ".join(f"w{n}" for n in range(1100))  # 4 blocks and some
NAME = "ab" * 32


class Words(State):
    """Holds nothing but how many words it stands for; written as twice the same number, so that half a file shows."""

    def __init__(self, tokens=512, nbytes=100):
        self.tokens, self.nbytes = tokens, nbytes

    def save(self, folder, level):
        folder.mkdir(parents=True)
        (folder / "tokens").write_text(f"{self.tokens} {self.tokens}" + " " * (self.nbytes - 7))
        return True


def load(folder):
    try:
        one, other = (folder / "tokens").read_text().split()
    except (OSError, ValueError) as error:
        raise SourceError(str(error)) from None
    if one != other:
        raise SourceError("damaged")
    return Words(int(one))


class FromPrefix(Interleaved):
    """Replies of a model that read a prefix, or found it."""

    def __init__(self, model, prompts, samplings, prefix):
        super().__init__([model.generate(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)])
        self.cached = 0
        if prefix is not None:
            state = prefix.longest(load)
            self.cached = state.tokens if state is not None else 0
            if self.cached < len(prefix.ids):
                prefix.keep(model.make(len(prefix.ids)), len(prefix.ids) - self.cached, 1.0)

    def completion(self, row):
        return replace(super().completion(row), cached_tokens=self.cached)


def reader_of(talker):
    class Reader(talker):
        """Words are ids; what is read of a prompt can be kept."""

        make = staticmethod(Words)

        def __init__(self, *args, **more):
            super().__init__(*args, **{"context_length": 4000} | more)

        def beginning(self, prompt, stable, sampling):
            ids = [[hash(w) for m in p for w in m.content.split(" ")] for p in (prompt, stable)]
            alike = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
            return tuple(ids[0][: alike // 256 * 256])

        def together(self, prompts, samplings, prefix=None):
            return FromPrefix(self, prompts, samplings, prefix)

    return Reader()


def asked(client, question="Who?", text=BOOK, model="talker"):
    said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": f"{text}\n\n{question}"}])
    return said.usage.prompt_tokens_details.cached_tokens, said.baywindow


def kept(folder):
    return [p for p in folder.iterdir() if p.is_dir()]


# -- over HTTP ----------------------------------------------------------------------------------------------------------------


def test_a_second_question_is_answered_from_the_cache(serve, talker):
    server = serve(reader_of(talker))
    assert asked(server.client)[0] == 0
    cached, report = asked(server.client, "When?")
    assert (cached, report["cache_hit"], report["tokens_cached"]) == (1024, True, 1024)
    regions = [(r["kind"], r["fate"], r["tokens"]) for r in report["steps"][0]["regions"]]
    # Two words of the template first, then the one message, which holds text and question.
    assert regions[1:] == [("other", "cached", 2), ("question", "cached", 1022), ("question", "kept", 1101 - 1022)]
    assert sum(tokens for _, _, tokens in regions) == report["tokens_in"]
    assert asked(server.client, text=BOOK[::-1])[0] == 0
    assert asked(server.client, text="Short.")[0] == 0  # and is not even a miss
    page = server.http.get("/metrics").text
    assert {"baywindow_cache_memory 1.0", "baywindow_cache_misses 2.0", "baywindow_cache_tokens 1024.0"} <= set(page.splitlines())
    assert "baywindow_cache_memory_bytes 200.0" in page


def test_it_is_there_after_a_restart_once_it_was_used_twice(serve, talker, wait_until):
    first = serve(reader_of(talker))
    folder = Path(os.environ["BAY_HOME"]) / "data" / "serve" / "prefixes"
    asked(first.client)
    assert kept(folder) == []  # a text that is asked of once is not written
    asked(first.client)
    wait_until(lambda: len(kept(folder)) == 1)
    second = serve(reader_of(talker))  # beside the first, on the same folder
    assert asked(second.client, "When?")[0] == 1024
    assert second.service.engine.prefixes.counts["disk"] == 1
    for file in kept(folder)[0].iterdir():
        assert not file.stat().st_mode & 0o111
    assert folder.stat().st_mode & 0o077 == 0


def test_nothing_is_kept_where_none_is_wanted(serve, talker):
    server = serve(reader_of(talker), cache=None)
    assert [asked(server.client)[0] for _ in range(2)] == [0, 0]
    assert "baywindow_cache" not in server.http.get("/metrics").text


@pytest.mark.parametrize("shared", [False, True])
def test_another_tenant_misses_unless_all_share(serve, talker, shared):
    keys = Keys()
    one, other = keys.new("one"), keys.new("other")
    server = serve(reader_of(talker), require_keys=True, cache=CacheOptions(shared=shared))
    found = []
    for key in (one, one, other, other):
        with server.client_of(key) as client:
            found.append(asked(client)[0] > 0)
    assert found == [False, True, shared, True]


def test_a_full_disk_answers_and_says_so_once(serve, talker, wait_until, caplog):
    class Full(Words):
        def save(self, folder, level):
            folder.mkdir(parents=True)
            (folder / "half").write_text("x")
            raise OSError(errno.ENOSPC, "No space left on device")

    model = reader_of(talker)
    model.make = Full
    with caplog.at_level(logging.WARNING, "baywindow.server"):
        server = serve(model)
        assert [asked(server.client)[0] for _ in range(4)] == [0, 1024, 1024, 1024]
        wait_until(lambda: server.service.engine.prefixes.counts["unwritten"])
        assert asked(server.client)[0] == 1024
    assert ["No space left" in r.getMessage() for r in caplog.records] == [True]
    assert kept(server.service.engine.prefixes.disk.folder) == []


# -- names and stable parts -----------------------------------------------------------------------------------------------------


def test_a_name_stands_for_all_that_a_state_depends_on():
    ids = list(range(600))
    names = names_of(ids, "a", ("model", "recipe"))
    assert [tokens for tokens, _ in names] == [256, 512, 600]
    assert len(set(names)) == 3
    assert names_of(ids[:512], "a", ("model", "recipe")) == names[:2]
    assert names_of(ids[:511], "a", ("model", "recipe"))[0] == names[0]
    for at, same in ((300, 1), (512, 2), (599, 2)):
        other = names_of([*ids[:at], 7, *ids[at + 1 :]], "a", ("model", "recipe"))
        assert [one == two for one, two in zip(names, other, strict=True)] == [n < same for n in range(3)]
    for tenant, bound_to in (
        ("b", ("model", "recipe")),
        ("a", ("model2", "recipe")),
        ("a", ("model", "recipe2")),
        ("a", ("modelrecipe", "")),
    ):
        assert not set(names) & set(names_of(ids, tenant, bound_to))


def test_the_last_paragraph_of_the_last_user_message_is_what_changes():
    system, old, reply = Message("system", "S"), Message("user", "a\n\nb"), Message("assistant", "c\n\nd")
    assert stable_part([system, old]) == [system, Message("user", "a\n\n")]
    assert stable_part([system, old, reply, Message("user", "more?")]) == [system, old, reply, Message("user", "")]
    assert stable_part([system, old, reply]) == [system, Message("user", "a\n\n")]
    assert stable_part("one\n\ntwo\n\nthree\n\n") == "one\n\ntwo\n\n"
    assert stable_part("one") == ""


# -- memory and disk ------------------------------------------------------------------------------------------------------------


def test_memory_lets_the_least_recently_used_go():
    memory = Memory(300)
    for name in "abc":
        assert memory.put(name, Words())
    memory.get("a", 512)
    memory.put("d", Words())
    assert [name in memory for name in "abcd"] == [True, False, True, True]
    assert not memory.put("e", Words(nbytes=301))
    assert (memory.nbytes, len(memory)) == (300, 3)
    memory.put("a", Words(nbytes=250))
    assert (memory.nbytes, len(memory)) == (250, 1)


class Cut(Words):
    """Can be cut back."""

    def upto(self, tokens):
        return Words(tokens, 50)


def test_memory_finds_a_state_by_its_whole_blocks_as_long_as_one_is_left():
    memory = Memory(300)
    memory.put("ab", Cut(600), "a")
    memory.put("ac", Cut(700), "a")
    assert ("a" in memory, memory.get("a", 512).tokens, memory.get("ac", 700).tokens, len(memory)) == (True, 512, 700, 2)
    memory.put("d", Words(nbytes=150))  # in the place of the one that was used least recently
    assert ["ab" in memory, "ac" in memory, memory.get("a", 512).tokens] == [False, True, 512]
    memory.put("d", Words(nbytes=250))
    assert ("a" in memory, memory.get("a", 512), memory.nbytes) == (False, None, 250)
    memory.put("ab", Cut(600, 30), "a")
    memory.put("ab", Cut(600, 40), "a")
    memory.put("e", Words(nbytes=300))
    assert "a" not in memory


def test_disk_lets_the_least_recently_used_go(tmp_path):
    disk = Disk(tmp_path, 300, "3")
    for i, name in enumerate("abc"):
        assert disk.write(name, Words())
        os.utime(disk.path(name), ns=(i, i))
    assert disk.find("a") == disk.path("a")
    assert disk.write("d", Words())
    assert [name in disk for name in "abcd"] == [True, False, True, True]
    assert not disk.write("e", Words(nbytes=301))
    assert (disk.nbytes, len(kept(tmp_path))) == (300, 3)
    assert "a" not in Disk(tmp_path, 300, "exact")  # another level is another file


def prefix_of(store, blocks=2):
    ids = tuple(range(256 * blocks))
    return KeptPrefix(store, ids, names_of(ids, "a", ("m", "r")))


@pytest.fixture
def store(tmp_path):
    made = PrefixStore(tmp_path, CacheOptions(memory_bytes=250))
    yield made
    made.close()


def test_what_is_damaged_is_read_anew_and_removed(store, caplog):
    prefix = prefix_of(store)
    store.disk.write(prefix.key, Words())
    (store.disk.path(prefix.key) / "tokens").write_text("51")
    assert prefix.longest(load) is None
    assert prefix.key not in store.disk
    assert (store.counts["damaged"], store.counts["misses"]) == (1, 1)
    store.disk.write(prefix.key, Words(tokens=768))  # whole, but of another prompt
    assert prefix.longest(load) is None
    assert "damaged" in caplog.text
    prefix.keep(Words(), 512, 1.0)
    assert prefix.longest(load).tokens == 512


def test_one_that_another_server_removes_is_a_miss_and_no_damage(store):
    prefix = prefix_of(store)
    store.disk.write(prefix.key, Words())

    def gone(folder):
        store.disk.remove(folder)
        return load(folder)

    assert prefix.longest(gone) is None
    assert store.counts["damaged"] == 0


def test_the_longest_beginning_is_found_wherever_it_lies(store):
    two, three, five = (prefix_of(store, n) for n in (2, 3, 5))
    assert not five.is_stored()
    two.keep(Words(512), 512, 1.0)
    assert five.longest(load).tokens == 512
    store.disk.write(three.key, Words(768))
    assert five.longest(load).tokens == 768
    assert three.key in store.memory  # what was loaded stays for the next
    assert five.is_stored()
    five.keep(Words(1280), 512, 1.0)
    assert five.longest(load).tokens == 1280
    six = prefix_of(store, 6)
    six.longest(load)
    six.keep(Words(1536), 256, 1.0)  # too little more to be kept besides
    assert six.key not in store.memory


def test_what_memory_cannot_hold_goes_to_disk_at_once(store, wait_until):
    prefix = prefix_of(store)
    prefix.keep(Words(nbytes=400), 512, 1.0)
    wait_until(lambda: prefix.key in store.disk)
    assert prefix.longest(load).tokens == 512


def test_nothing_is_written_beside_a_reply(store, wait_until):
    store.quiet.clear()
    prefix = prefix_of(store)
    prefix.keep(Words(nbytes=400), 512, 1.0)
    wait_until(lambda: store._waiting.empty())  # the writer has it in its hands
    time.sleep(0.1)
    assert prefix.key not in store.disk
    store.quiet.set()
    wait_until(lambda: prefix.key in store.disk)


def test_a_model_at_work_is_no_quiet_moment(talker, tmp_path, wait_until):
    model = talker(lambda prompt: "said")
    store = PrefixStore(tmp_path, CacheOptions())
    engine = Engine(model, prefixes=store)
    wait_until(store.quiet.is_set)
    assert engine.run("a", (), lambda view: store.quiet.is_set()) is False
    wait_until(store.quiet.is_set)
    model.pace.set()
    engine.close()


def test_loading_is_left_where_reading_is_quicker(store):
    prefix = prefix_of(store)
    store.disk.write(prefix.key, Words())
    store.rates.read(1000, 1.0)  # 512 tokens take 0.512 s
    store.rates.loaded(190, 1.0)  # 100 bytes 0.526 s
    assert prefix.longest(load) is None
    assert store.counts["recomputed"] == 1
    assert prefix.longest(load).tokens == 512  # tried again in time: 209 bytes a second would do


def test_rates_are_means_of_what_was_measured():
    rates = Rates()
    assert rates.loading_pays(10**9, 1)
    rates.read(100, 1.0)
    assert rates.loading_pays(10**9, 1)
    rates.read(200, 1.0)
    assert rates.tokens_per_s == pytest.approx(0.7 * 100 + 0.3 * 200)


# -- several servers --------------------------------------------------------------------------------------------------------------

SLOW = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_prefixes as t
from baywindow.server.prefixes.disk import Disk

class Slow(t.Words):
    def save(self, folder, level):
        folder.mkdir(parents=True)
        (folder / "tokens").write_text("512")
        print("half", flush=True)
        time.sleep(60)

Disk(Path(sys.argv[1]), 1000, "3").write(t.NAME, Slow())
"""
MANY = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_prefixes as t
print(t.write_and_read(Path(sys.argv[1])))
"""


def write_and_read(folder: Path) -> str:
    """Sixty states in a place for three; after each the one before it is looked for, which is there unless the other has pushed it out."""
    disk, found = Disk(folder, 300, "3"), {"whole": 0, "gone": 0, "damaged": 0}
    for n in range(60):
        disk.write(f"{n % 7}", Words())
        if (path := disk.find(f"{(n - 1) % 7}")) is not None:
            try:
                load(path)
                found["whole"] += 1
            except SourceError:
                found["damaged" if path.exists() else "gone"] += 1
    return json.dumps(found)


def run(script, *args):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, args)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_server_killed_while_it_writes_leaves_nothing_that_counts(tmp_path):
    process = run(SLOW, tmp_path)
    assert process.stdout.readline() == "half\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    disk = Disk(tmp_path, 1000, "3")
    assert (tmp_path / BESIDE).is_dir()
    assert NAME not in disk
    assert disk.nbytes == 0
    (tmp_path / f"{GONE}x").mkdir()
    assert disk.write(NAME, Words())  # the lock of the dead is free, and his half is cleared away
    assert [p.name for p in kept(tmp_path)] == [disk.path(NAME).name]
    assert load(disk.find(NAME)).tokens == 512


@pytest.mark.slow
def test_two_servers_on_one_folder_do_each_other_no_harm(tmp_path):
    processes = [run(MANY, tmp_path) for _ in range(2)]
    found = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [one["damaged"] for one in found] == [0, 0]
    assert sum(one["whole"] for one in found) > 0
    assert Disk(tmp_path, 300, "3").nbytes <= 300
    assert time.time() > max(p.stat().st_mtime for p in kept(tmp_path))
