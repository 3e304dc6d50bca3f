"""A setting of the process: seen from another one, for it cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "kept"), [(None, "16"), ("64", "64")])
def test_builders_are_bounded_before_lancedb_starts_unless_the_person_says_otherwise(given, kept):
    script = (
        "import os, sys; from baywindow.documents.index.store import Store; assert 'lancedb' not in sys.modules;"
        "Store('memory')._connection(); print(os.environ['LANCE_FTS_PARTITION_SIZE'])"
    )
    env = {k: v for k, v in os.environ.items() if k != "LANCE_FTS_PARTITION_SIZE"} | ({"LANCE_FTS_PARTITION_SIZE": given} if given else {})
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env, cwd=env.get("BAY_HOME"))
    assert done.stdout.strip() == kept
