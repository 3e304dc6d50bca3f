"""How hours become numbers of samples. Seconds here are stated, never measured."""

from __future__ import annotations

from baywindow.bench.schedule import Schedule

STOCK, CHEAP, DEAR = "stock", "cheap", "dear"


def schedule(seconds: dict[tuple[int, str], float], tasks: int = 1) -> Schedule:
    made = Schedule(list(seconds), dict.fromkeys({n for n, _ in seconds}, tasks), frozenset({STOCK}))
    for column, each in seconds.items():
        for _ in range(tasks):
            made.spent(column, each)
    for length, _ in seconds:
        made.done[length] = 1
    return made


def test_samples_are_what_the_time_gives() -> None:
    # A round is 1 + 3 = 4 s; one round is done, so 40 s are 10 more: 11 samples.
    assert schedule({(64, STOCK): 1.0, (64, CHEAP): 3.0}).decide(40.0) == 11


def test_never_more_than_a_hundred() -> None:
    assert schedule({(64, STOCK): 0.001}).decide(1e6) == 100


def test_the_dearest_column_is_dropped_first_and_said() -> None:
    # All: 9 rounds × (1 + 2 + 10) = 117 s. Without the dear one: 9 × 3 = 27 s, and 30 s give 10 rounds: 11 samples.
    made = schedule({(64, STOCK): 1.0, (64, CHEAP): 2.0, (64, DEAR): 10.0})
    assert made.decide(30.0) == 11
    assert made.postponed == {(64, DEAR): "10.0 s a sample: no time for 10 samples of everything"}
    assert made.active(64) == [STOCK, CHEAP]


def test_stock_goes_only_with_its_length_and_the_last_length_stays() -> None:
    made = schedule({(64, STOCK): 1.0, (64, DEAR): 5.0, (128, STOCK): 4.0, (128, DEAR): 20.0})
    assert made.decide(5.0) == 6  # 64 alone: 5 more rounds of 1 s
    assert made.kept == [(64, STOCK)]
    assert made.postponed[128, STOCK] == "no time for 10 samples at this length"


def test_a_length_that_waits_takes_no_time_from_the_others() -> None:
    made = schedule({(64, STOCK): 1.0, (64, CHEAP): 1.0})
    made.columns += [(128, STOCK), (128, CHEAP)]
    made.tasks[128] = 1
    assert made.left(1) == 4.0  # twice the length is guessed to take twice the time: 2 columns × 2 s
    made.waiting.add(128)
    assert made.left(1) == 0.0
    assert made.lengths == [64]


def test_a_column_that_has_its_samples_is_not_put_off_for_one_that_lacks_them() -> None:
    made = schedule({(64, STOCK): 1.0, (64, DEAR): 30.0, (128, STOCK): 2.0, (128, CHEAP): 4.0})
    for _ in range(9):
        made.spent((64, STOCK), 1.0)
        made.spent((64, DEAR), 30.0)
    assert made.decide(20.0) == 10  # 9 × 2 s for stock at 128; CHEAP would take 36 s more
    assert made.postponed.keys() == {(128, CHEAP)}


def test_what_was_measured_is_not_counted_again() -> None:
    made = schedule({(64, STOCK): 2.0}, tasks=3)
    assert made.left(1) == 0.0
    assert made.left(4) == 3 * 3 * 2.0


def test_what_was_postponed_comes_back_when_it_turns_out_cheaper() -> None:
    made = schedule({(64, STOCK): 1.0, (64, DEAR): 30.0})
    made.decide(60.0)
    assert made.active(64) == [STOCK]
    made.spent((64, DEAR), 2.0)  # the first measurement had also loaded something
    assert made.seconds_of((64, DEAR)) == 2.0
    made.decide(60.0)
    assert made.active(64) == [STOCK, DEAR]


def test_what_was_dropped_for_good_stays_so() -> None:
    made = schedule({(64, STOCK): 1.0, (64, CHEAP): 1.0})
    made.drop([(64, CHEAP)], "it only fails")
    made.decide(1000.0)
    assert made.active(64) == [STOCK]


def test_one_slow_sample_does_not_decide() -> None:
    made = schedule({(64, STOCK): 9.0})
    for seconds in (1.0, 1.0, 50.0):
        made.spent((64, STOCK), seconds)
    assert made.seconds_of((64, STOCK)) == 1.0
