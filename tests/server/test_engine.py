"""Fair turns, batches, and rows of one batch that do not disturb each other."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from baywindow.errors import ContextLengthError
from baywindow.models.base import Completion, Message, Sampling
from baywindow.models.together import Interleaved, Together
from baywindow.models.wrapped import Wrapped
from baywindow.server.engine import Engine, Row
from baywindow.server.fair import Fair
from baywindow.server.prefixes.once import ReadOnce
from baywindow.server.wrapped import Cancelled, Framed, Queued


def test_tenants_take_turns():
    line = Fair()
    for tenant, items in (("a", "123"), ("b", "45"), ("c", "6")):
        for item in items:
            line.put(tenant, item)
    assert len(line) == 6
    assert [line.take()[1] for _ in range(6)] == ["1", "4", "6", "2", "5", "3"]


def test_what_is_alike_is_taken_in_turn_and_may_be_put_back():
    line = Fair()
    for tenant, items in (("a", ["x1", "y1", "x2"]), ("b", ["x3", "x4"])):
        for item in items:
            line.put(tenant, item)
    taken = line.take_like(lambda item: item.startswith("x"), 10)
    assert taken == [("a", "x1"), ("b", "x3"), ("b", "x4")]  # x2 stands behind y1, and one tenant's order is kept
    line.put_back(taken[1:])
    assert [line.take() for _ in range(4)] == [("a", "y1"), ("b", "x3"), ("a", "x2"), ("b", "x4")]


def test_a_closed_line_is_served_to_its_end():
    line = Fair()
    line.put("a", 1)
    line.close()
    assert line.take() == ("a", 1)
    assert line.take() is None
    with pytest.raises(RuntimeError):
        line.put("a", 2)


@pytest.fixture
def engine(talker):
    model = talker(lambda prompt: f"answer to {prompt[-1].content}")
    model.batches = lambda lengths, new_tokens: [list(range(len(lengths)))]
    made = Engine(model)
    yield made
    model.pace.set()
    made.close()


def asked(engine, text, tenant="a", cancelled=None, **sampling):
    view = Queued(engine, tenant, cancelled or threading.Event())
    return view.generate((Message("user", text),), Sampling(**sampling))


def test_what_waits_runs_as_one_batch_and_every_row_has_its_own_reply(engine, wait_until):
    engine.model.pace.clear()
    first = asked(engine, "zero")
    wait_until(lambda: engine.batches == 1)
    others = [asked(engine, name, tenant=name, max_new_tokens=n) for n, name in enumerate(("one", "two", "three"), start=1)]
    assert engine.waiting == 3
    engine.model.pace.set()
    assert first.completion.text == "answer to zero"
    # limits of 1, 2 and 3 words
    assert [o.completion.text for o in others] == ["answer", "answer to", "answer to three"]
    assert [o.completion.finish for o in others] == ["length", "length", "stop"]
    assert (engine.batches, engine.rows) == (2, 4)


def test_a_row_that_is_cancelled_leaves_its_neighbours_alone(engine, wait_until):
    engine.model.pace.clear()
    first = asked(engine, "zero")
    wait_until(lambda: engine.batches == 1)
    gone = threading.Event()
    leaving, staying = asked(engine, "one", cancelled=gone), asked(engine, "two")
    gone.set()
    engine.model.pace.set()
    assert staying.completion.text == "answer to two"
    with pytest.raises(Cancelled):
        _ = leaving.completion
    assert first.completion.text == "answer to zero"
    assert [p[-1].content for p in engine.model.prompts] == ["zero", "two"]  # nothing was generated for nobody


def test_a_stream_that_is_closed_early_ends_its_row(engine, wait_until):
    engine.model.held_from = 1
    engine.model.pace.clear()
    stream = asked(engine, "zero")
    assert next(iter(stream)) == "answer"
    stream.close()
    engine.model.pace.set()
    wait_until(lambda: engine.model.closed_early == 1)
    assert stream.completion.finish == "cancelled"


def test_an_error_is_the_rows_own_and_the_thread_goes_on(engine):
    engine.model.reply = lambda prompt: 1 / 0
    with pytest.raises(ZeroDivisionError):
        _ = asked(engine, "one").completion
    engine.model.reply = lambda prompt: "fine"
    assert asked(engine, "two").completion.text == "fine"


def test_framed_prompts_stand_under_the_applications_instructions(talker):
    model = talker()
    framed = Framed(model, "Be kind.", Sampling(temperature=0.7, seed=3, stop=("END",)))
    done = framed.generate((Message("system", "Rules."), Message("user", "Hi.")), Sampling(max_new_tokens=5, stop=("X",))).completion
    assert [m.content for m in model.prompts[0]] == ["Be kind.\n\nRules.", "Hi."]
    used = model.samplings[0]
    assert (used.temperature, used.seed, used.stop, used.max_new_tokens) == (0.7, 3, ("X", "END"), 5)
    assert framed.last == done
    assert framed.count_tokens((Message("user", "Hi."),)) == 2 + 2 + 1 + 2


def test_models_without_batches_of_their_own_take_turns(talker):
    rows = Interleaved.of(talker(lambda p: p[-1].content), ["one two", (Message("user", "three"),)], [Sampling(), Sampling()])
    assert list(rows) == [["one", "three"], [" two", ""], ["", ""]]
    assert (rows.completion(0).text, rows.completion(1).text) == ("one two", "three")


def test_nothing_that_computes_passes_by_the_queue() -> None:
    """`Wrapped` goes straight to the model. What does not run the model may; all else must wait for its turn."""
    runs_nothing = {"capabilities", "fingerprint", "check_schema", "count_tokens", "prompt_tokens"}
    passed_on = {
        name for name, value in vars(Wrapped).items() if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert passed_on >= runs_nothing | {"generate", "score"}
    assert passed_on - runs_nothing - set(vars(Queued)) == set()


class Growing(Together):
    """Says a word of each row's prompt a step; up to ``most`` rows at a time. Waits for ``pace`` before each step."""

    def __init__(self, pace, most=3):
        self.pace, self.most = pace, most
        self.words, self.said, self.joined, self.waits = [], [], [], 0

    def join(self, prompts, samplings, prefix=None):
        if any(prompt[0].content == "bad" for prompt in prompts):
            raise ContextLengthError("too long")
        self.joined.append(([prompt[0].content for prompt in prompts], prefix))
        self.words += [prompt[0].content.split() for prompt in prompts]
        self.said += [0] * len(prompts)

    def room(self, prompt_tokens, new_tokens):
        return self.most - sum(not self.done(row) for row in range(len(self.words)))

    def __iter__(self):
        while not all(self.done(row) for row in range(len(self.words))):
            self.waits += 1
            self.pace.acquire()
            going = [not self.done(row) for row in range(len(self.words))]
            texts = [" " + self.words[row][self.said[row]] if on else "" for row, on in enumerate(going)]
            self.said = [n + on for n, on in zip(self.said, going, strict=True)]
            yield texts

    def drop(self, row):
        self.words[row] = self.words[row][: self.said[row]]

    def done(self, row):
        return self.said[row] == len(self.words[row])

    def completion(self, row):
        return Completion(text=" ".join(self.words[row]), prompt_tokens=1, generated_tokens=self.said[row], finish="stop")


@pytest.fixture
def growing(talker):
    """An engine whose model makes `Growing` batches, all of which are in ``made``; ``step()`` lets one step happen."""
    model = talker()
    model.batches = lambda lengths, new_tokens: [list(range(len(lengths)))]
    pace, made = threading.Semaphore(0), []

    def together(prompts, samplings, prefix=None):
        made.append(Growing(pace))
        made[-1].join(prompts, samplings, prefix)
        return made[-1]

    model.together = together
    model.attached = lambda parts: nullcontext(model)
    engine = Engine(model)
    engine.made, engine.pace = made, pace
    yield engine
    pace.release(10_000)
    engine.close()


def test_who_comes_later_joins_the_batch(growing, wait_until):
    first = asked(growing, "a b c d e")
    wait_until(lambda: growing.batches == 1)
    second = asked(growing, "f g", tenant="b")
    growing.pace.release(3)  # in the second and third step it says its words
    assert second.completion.text == " f g"  # it waits for nobody else's end
    assert not growing.made[0].done(0)
    growing.pace.release(2)
    assert first.completion.text == " a b c d e"
    assert (growing.batches, growing.rows) == (1, 2)
    assert growing.made[0].joined == [(["a b c d e"], None), (["f g"], None)]


def test_no_more_join_than_have_room_and_the_next_does_when_one_is_done(growing, wait_until):
    first = asked(growing, "a b c d e f")
    wait_until(lambda: growing.batches == 1)
    others = [asked(growing, text, tenant=text) for text in ("g h", "i j k", "l")]
    growing.pace.release(1)
    wait_until(lambda: growing.rows == 3)
    assert growing.waiting == 1
    growing.pace.release(10)
    assert [one.completion.text for one in (first, *others)] == [" a b c d e f", " g h", " i j k", " l"]
    assert (growing.batches, growing.rows) == (1, 4)


def test_whoever_needs_other_techniques_is_not_passed_by(growing, wait_until):
    """What stands behind it waits too, else a busy model would never change its recipe."""
    first = asked(growing, "a b c d")
    wait_until(lambda: growing.batches == 1)
    changed = Row(("other",), (Message("user", "x y"),), Sampling(), 2, threading.Event())
    growing.submit("b", changed)
    behind = asked(growing, "z", tenant="c")
    growing.pace.release(50)
    assert [one.completion.text for one in (first, behind)] == [" a b c d", " z"]
    assert changed.said.get() == " x"
    assert [made.joined for made in growing.made] == [[(["a b c d"], None)], [(["x y"], None)], [(["z"], None)]]


def test_an_errand_is_run_between_two_steps_and_one_at_a_time(growing, wait_until):
    ran = []
    first = asked(growing, "a b c d")
    wait_until(lambda: growing.batches == 1)
    threads = [threading.Thread(target=growing.run, args=("b", (), lambda view, n=n: ran.append(n))) for n in range(2)]
    for n, thread in enumerate(threads):
        thread.start()
        wait_until(lambda n=n: growing.waiting == n + 1)
    growing.pace.release(1)
    wait_until(lambda: len(ran) == 1)
    assert growing.waiting == 1
    growing.pace.release(1)
    wait_until(lambda: len(ran) == 2)
    growing.pace.release(2)
    assert first.completion.text == " a b c d"
    for thread in threads:
        thread.join()


def test_an_error_of_a_row_that_joins_is_its_own(growing, wait_until):
    first = asked(growing, "a b c")
    wait_until(lambda: growing.batches == 1)
    bad = asked(growing, "bad", tenant="b")
    growing.pace.release(9)
    with pytest.raises(ContextLengthError, match="too long"):
        _ = bad.completion
    assert first.completion.text == " a b c"


def test_a_row_that_left_before_it_joined_is_told_so(growing, wait_until):
    first = asked(growing, "a b c")
    wait_until(lambda: growing.batches == 1)
    gone = threading.Event()
    leaving = asked(growing, "x", tenant="b", cancelled=gone)
    gone.set()
    growing.pace.release(9)
    with pytest.raises(Cancelled):
        _ = leaving.completion
    assert first.completion.text == " a b c"
    assert len(growing.made[0].joined) == 1


def test_replies_to_one_prompt_join_together(growing, wait_until):
    first = asked(growing, "a b c d e")
    wait_until(lambda: growing.batches == 1)
    once = ReadOnce(range(300))
    rows = [Row((), (Message("user", "x y"),), Sampling(), 2, threading.Event(), once) for _ in range(3)]
    growing.submit("b", *rows)
    growing.pace.release(20)
    assert first.completion.text == " a b c d e"
    wait_until(lambda: growing.rows == 4)
    # Room is for two; the third joins when one of them is done, and then reads by itself.
    assert [(texts, prefix is once) for texts, prefix in growing.made[0].joined[1:]] == [(["x y"] * 2, True), (["x y"], True)]


def test_a_reply_that_is_done_is_told_before_the_next_step(growing, wait_until):
    first = asked(growing, "a b")
    wait_until(lambda: growing.batches == 1)
    growing.pace.release(1)
    wait_until(lambda: growing.made[0].waits == 2)  # the second step is about to come
    second = asked(growing, "c", tenant="b")
    growing.pace.release(1)
    assert first.completion.text == " a b"  # though the other joined and its step waits
    growing.pace.release(5)
    assert second.completion.text == " c"
