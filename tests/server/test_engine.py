"""Fair turns, batches, and rows of one batch that do not disturb each other."""

from __future__ import annotations

import threading

import pytest

from baywindow.models.base import Message, Sampling
from baywindow.models.together import Interleaved
from baywindow.models.wrapped import Wrapped
from baywindow.server.engine import Engine
from baywindow.server.fair import Fair
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
