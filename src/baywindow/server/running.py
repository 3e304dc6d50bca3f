"""Runs a service with Uvicorn until it is told to stop: finish what is under way, then end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from baywindow.errors import ConfigError
from baywindow.server.app import make_app
from baywindow.server.service import Service


@dataclass(frozen=True)
class Bound:
    """A socket that listens, taken before the model is loaded: a port that is in use costs no waiting."""

    socket: socket.socket
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def bind(host: str, port: int) -> Bound:
    """ConfigError if the address cannot be had. Port 0 takes any free one."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(kind)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(f"{host}:{port} cannot be listened on: {error.strerror or error}", hint="choose another with --port") from None
    return Bound(listening, host, int(listening.getsockname()[1]))


class Server(uvicorn.Server):
    """`run(sockets=[…])` returns when it has ended. After the first signal streams have their time to finish; a second one ends them.
    With ``idle_s`` it also ends when for so many seconds nothing was asked and nothing was under way."""

    def __init__(
        self,
        service: Service,
        on_ready: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
        *,
        idle_s: float | None = None,
    ) -> None:
        config = uvicorn.Config(
            make_app(service),
            log_level="warning",
            access_log=False,  # addresses and what was asked for stay out of logs
            server_header=False,
            timeout_graceful_shutdown=service.options.patience_s,
        )
        super().__init__(config)
        self._service, self._on_ready, self._on_end = service, on_ready, on_end
        self._idle_s, self._asked, self._busy_at = idle_s, 0, 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._busy_at = time.monotonic()
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._is_idle()

    def _is_idle(self) -> bool:
        asked, now = self.server_state.total_requests, time.monotonic()
        if asked != self._asked or self.server_state.tasks:
            self._asked, self._busy_at = asked, now
        return self._idle_s is not None and now - self._busy_at >= self._idle_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()  # here, not after `run`: a signal that ended it is raised again before `run` returns
        await super().shutdown(sockets=sockets)
