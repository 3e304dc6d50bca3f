"""Calls side by side that whoever waits for them can leave at any time.

The threads of `concurrent.futures` are waited for when Python ends: after Ctrl-C a program would stay until every server had answered.
These are not. What they were doing is given up with the process, and a server notices that nobody listens any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(call: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """The results in order, ``at_once`` calls at a time. The first error is raised at once, and nothing more is begun."""
    waiting: SimpleQueue[tuple[int, T]] = SimpleQueue()
    done: SimpleQueue[tuple[int, R | None, BaseException | None]] = SimpleQueue()
    given_up = threading.Event()
    for numbered in enumerate(items):
        waiting.put(numbered)

    def work() -> None:
        while not given_up.is_set():
            try:
                number, item = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((number, call(item), None))
            except BaseException as error:  # raised again where it is waited for
                done.put((number, None, error))

    results: dict[int, R] = {}
    try:
        for _ in range(min(at_once, len(items))):
            threading.Thread(target=work, daemon=True, name="side-by-side").start()
        for _ in items:
            number, result, error = done.get()
            if error is not None:
                raise error
            results[number] = result  # type: ignore[assignment]  # None only beside an error, or where R has it
    finally:
        given_up.set()
    return [results[number] for number in range(len(items))]
