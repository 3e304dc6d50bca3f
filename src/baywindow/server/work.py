"""Where requests meet threads: how many are under way, who waits for them, and what happens when that one hangs up.

An accepted request holds a place until its thread has ended, also when its client is long gone. There are only so many places; one
more is told to come back later, so memory does not grow with the load. No key holds more than half of them while others are known.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request

from baywindow.server.errors import ApiError
from baywindow.server.wrapped import Cancelled

T = TypeVar("T")
Say = Callable[[Any], None]
RETRY_AFTER_S = 2
_END, _GONE = object(), object()


class Work:
    """``most`` places; ``shared`` says that several keys share them."""

    def __init__(self, most: int, *, shared: bool = False) -> None:
        self.most = most
        self._most_each = max(1, most // 2) if shared else most
        self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix="baywindow-request")
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._under_way: set[threading.Event] = set()

    @property
    def busy(self) -> int:
        return self._held.total()

    async def run(self, tenant: str, request: Request, act: Callable[[threading.Event], T]) -> T:
        """What ``act`` gives, run in a thread; its event is set when the client hangs up."""
        cancelled = threading.Event()
        future = self._start(tenant, cancelled, lambda: act(cancelled))
        gone = asyncio.create_task(_hung_up(request))
        either: set[asyncio.Future[Any]] = {future, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise Cancelled
            return future.result()
        finally:
            cancelled.set()
            gone.cancel()
            future.add_done_callback(_heard)

    async def stream(self, tenant: str, request: Request, act: Callable[[threading.Event, Say], None]) -> AsyncIterator[Any]:
        """What ``act`` says, as it is said; begins once there is a first piece, so that an early error is an ordinary one."""
        said: asyncio.Queue[Any] = asyncio.Queue()
        cancelled, loop = threading.Event(), asyncio.get_running_loop()

        def say(piece: Any) -> None:
            if not cancelled.is_set():
                loop.call_soon_threadsafe(said.put_nowait, piece)

        future = self._start(tenant, cancelled, lambda: act(cancelled, say))
        future.add_done_callback(lambda done: said.put_nowait(_END))
        first, gone = asyncio.create_task(said.get()), asyncio.create_task(_hung_up(request))
        try:
            await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise Cancelled
            if first.result() is _END:
                future.result()  # raises what went wrong before anything was said
        except BaseException:
            cancelled.set()
            gone.cancel()
            future.add_done_callback(_heard)
            raise
        finally:
            first.cancel()
        # While nothing is said nothing is sent either, and only this would notice that the client has left.
        gone.add_done_callback(lambda done: said.put_nowait(_GONE))
        return _rest(first.result(), said, future, cancelled, gone)

    def cancel_all(self) -> None:
        """The server's patience is over: end everything that is under way."""
        with self._lock:
            for event in self._under_way:
                event.set()

    def close(self) -> None:
        self.cancel_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """A place for work that needs no thread: a request that is passed on."""
        self._enter(tenant)
        try:
            yield
        finally:
            self._leave(tenant)

    async def passed_on(self, tenant: str, request: Request, call: Coroutine[Any, Any, T]) -> T:
        """What a call to somewhere else gives, in a place; it ends when the client hangs up."""
        try:
            async with self.place(tenant):
                calling, gone = asyncio.create_task(call), asyncio.create_task(_hung_up(request))
                either: set[asyncio.Future[Any]] = {calling, gone}
                try:
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if not calling.done():
                        raise Cancelled
                    return calling.result()
                finally:
                    calling.cancel()
                    gone.cancel()
        finally:
            call.close()  # where there was no place it never began

    def _start(self, tenant: str, cancelled: threading.Event, act: Callable[[], T]) -> asyncio.Future[T]:
        self._enter(tenant)
        with self._lock:
            self._under_way.add(cancelled)

        def held() -> T:
            try:
                return act()
            finally:
                with self._lock:
                    self._under_way.discard(cancelled)
                self._leave(tenant)

        return asyncio.get_running_loop().run_in_executor(self._pool, held)

    def _enter(self, tenant: str) -> None:
        with self._lock:
            if self.busy >= self.most or self._held[tenant] >= self._most_each:
                raise ApiError(
                    429, "too many requests are under way", hint=f"try again in {RETRY_AFTER_S} s", code="busy", retry_after_s=RETRY_AFTER_S
                )
            self._held[tenant] += 1

    def _leave(self, tenant: str) -> None:
        with self._lock:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]


async def _rest(
    first: Any, said: asyncio.Queue[Any], future: asyncio.Future[Any], cancelled: threading.Event, gone: asyncio.Task[None]
) -> AsyncIterator[Any]:
    try:
        piece = first
        while piece is not _END:
            if piece is _GONE:
                raise Cancelled
            yield piece
            piece = await said.get()
        future.result()
    finally:
        cancelled.set()
        gone.cancel()
        future.add_done_callback(_heard)


async def _hung_up(request: Request) -> None:
    """Returns when the client is gone. The body has been read by then, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _heard(future: asyncio.Future[Any]) -> None:
    """What went wrong after nobody listened any more is no news."""
    if not future.cancelled():
        future.exception()
