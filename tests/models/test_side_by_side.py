"""`side_by_side`: order, the limit, and the first error."""

from __future__ import annotations

import threading

import pytest

from baywindow.models.side_by_side import side_by_side


def test_results_stand_in_the_order_of_what_was_asked() -> None:
    last_is_done = threading.Event()

    def call(n: int) -> int | None:
        if n == 0:
            assert last_is_done.wait(30)
        if n == 3:
            last_is_done.set()
        return None if n == 2 else n * n

    assert side_by_side(call, [0, 1, 2, 3], 2) == [0, 1, None, 9]
    assert side_by_side(call, [], 2) == []


def test_no_more_than_so_many_run_at_a_time() -> None:
    lock, both = threading.Lock(), threading.Barrier(2, timeout=30)
    now, most = 0, 0

    def call(n: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        both.wait()  # passed by two together only
        with lock:
            now -= 1

    side_by_side(call, range(6), 2)
    assert most == 2


def test_an_error_is_raised_though_others_still_run_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    free = threading.Event()

    def call(n: int) -> None:
        begun.append(n)
        if n == 1:
            raise ValueError("no")
        free.wait(30)

    with pytest.raises(ValueError, match="no"):
        side_by_side(call, range(5), 2)
    left = len(begun)
    free.set()
    for thread in threading.enumerate():
        if thread.name == "side-by-side":
            thread.join(30)
    # The one that failed may have taken another before it was noticed; the rest is never begun.
    assert len(begun) <= left + 1 < 5
