"""A model that stays loaded for the next question: a private `bay serve` that `bay ask` starts, and that ends when it is left unasked.

It is started before the documents are opened, so that both take the same time, and found like any other server. There is one of a
model: while it is being loaded or serves it holds a lock that bears the model's sum, so of two commands that start at once one waits
for what the other started.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from baywindow.context.ask import DEFAULT_RECIPE
from baywindow.errors import ConfigError
from baywindow.home import data_dir
from baywindow.server.announced import LOCK_SECONDS, Announced, running, version

if TYPE_CHECKING:
    from baywindow.config import Settings

LOOK_EVERY_S = 0.1
SHOWN = 200  # characters of what the server says about its loading
# -P: a file in the working folder that is called like a module is never imported.
COMMAND = (sys.executable, "-P", "-c", "from baywindow.cli.main import app; app()", "serve")


class Kept:
    """A server that was started, or one that another command has just started; `server` waits for it."""

    def __init__(self, name: str, fingerprint: str, settings: Settings) -> None:
        self._fingerprint, self._settings = fingerprint, settings
        at = place(fingerprint, settings)
        self._lock, self._log = at.with_suffix(".lock"), at.with_suffix(".log")
        self._found: Announced | None = None
        self._gave_up = False
        arguments = [*COMMAND, "--model", name, "--port", "0", "--private", "--idle", str(settings.keep_minutes)]
        if settings.context is not None:
            arguments += ["--context", str(settings.context)]
        # The default recipe: one that acts inside the model could be configured, and would answer otherwise.
        arguments += ["--recipe", DEFAULT_RECIPE]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C and the end of the terminal are not meant for it
            )

    def server(self, progress: Callable[[str], None] = lambda text: None) -> Announced | None:
        """The server when it is ready; None where it ended instead, for which ``why`` then has the reason."""
        while self._found is None and not self._gave_up:
            # Whether there is still something to wait for is asked first: what ends after that was announced before.
            waiting = self._process.poll() is None or is_held(self._lock)
            self._found = next((s for s in running() if s.would_load(self._fingerprint, self._settings) and s.answers()), None)
            self._gave_up = self._found is None and not waiting
            if self._found is None and waiting:
                progress((self._said() if self._process.poll() is None else "") or "loading the model")
                time.sleep(LOOK_EVERY_S)
        return self._found

    @property
    def why(self) -> str:
        """What it said last, in one line."""
        return self._said().removeprefix("error: ") or f"it ended with code {self._process.returncode}"

    def _said(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        told = [line.strip() for line in lines if line.strip() and not line.startswith("hint: ")]
        return told[-1][:SHOWN] if told else ""


def place(fingerprint: str, settings: Settings) -> Path:
    """Where one model, held in one way, has its lock and its log; without a suffix."""
    how = repr((fingerprint, settings.device, settings.dtype, settings.context, version()))
    return data_dir("serve", "kept") / hashlib.sha256(how.encode()).hexdigest()[:16]


def held(fingerprint: str, settings: Settings) -> filelock.BaseFileLock:
    """The lock of a server's model, to be kept for as long as the process lives. ConfigError where another process has it."""
    lock = filelock.FileLock(place(fingerprint, settings).with_suffix(".lock"), timeout=LOCK_SECONDS, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ConfigError("this model is already being kept", hint="`bay serve --stop` ends what keeps it") from None
    return lock


def is_held(lock: Path) -> bool:
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
