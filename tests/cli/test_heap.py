"""A setting of the process: seen from another one, for it cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, sys, threading
from baywindow.cli.heap import share_one_heap
if sys.argv[1] == "one":
    share_one_heap()
together = threading.Barrier(4)

def work():
    together.wait()
    kept = [bytes(3000) for _ in range(100)]  # above what Python keeps in arenas of its own
    together.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
stdout = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of threads are glibc's")
def test_threads_share_one_heap():
    def heaps(how: str) -> int:
        env = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
        return subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, check=True, env=env).stdout.count(
            "<heap nr="
        )

    assert heaps("one") == 1
    assert heaps("many") > 1


def test_bay_index_sets_it(bay, folder, monkeypatch):
    from baywindow.cli import index

    loaded = []
    monkeypatch.setattr(index, "share_one_heap", lambda: loaded.append(True))
    assert bay("index", ".").exit_code == 0
    assert loaded == [True]
