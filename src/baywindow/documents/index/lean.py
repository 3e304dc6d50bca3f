"""What keeps the memory bounded in which the word index is built."""

from __future__ import annotations

import os

PARTITION_MIB = 16


def bounded_builders() -> None:
    """Let each of LanceDB's builders write out what it holds at 16 MiB. Its default is 2 GiB, which no index here reaches: all of it
    would stay in memory until the end.

    A setting of the process, and read once: this comes before LanceDB builds for the first time. A value in the environment stays.
    """
    os.environ.setdefault("LANCE_FTS_PARTITION_SIZE", str(PARTITION_MIB))
