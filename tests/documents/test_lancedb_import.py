"""LanceDB imported without its catalogue client: in a process of its own, since an import happens once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from baywindow.documents.index.lance import CLIENT

NEEDED = importlib.util.find_spec(CLIENT) is not None


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not NEEDED, reason="this release of LanceDB has no such client")
def test_a_table_is_written_and_searched_without_the_clients_calls(tmp_path):
    code = f"""
import sys
from baywindow.documents.index.lance import lancedb
table = lancedb().connect({str(tmp_path)!r}).create_table("t", [{{"vector": [0.0, 1.0], "n": 7}}])
print(table.search([0.0, 1.0]).limit(1).to_list()[0]["n"], any(m.startswith("{CLIENT}.api.") for m in sys.modules))
"""
    assert run(code) == "7 False"


@pytest.mark.skipif(not NEEDED, reason="this release of LanceDB has no such client")
def test_the_clients_calls_are_there_when_they_are_asked_for():
    code = f"""
from baywindow.documents.index.lance import lancedb
lancedb()
import {CLIENT} as client
print(client.DataApi.__module__, client.ApiClient is client.api_client.ApiClient, type(client).__name__)
try:
    client.no_such_call
except AttributeError as error:
    print(error)
"""
    said = run(code).splitlines()
    assert said == [f"{CLIENT}.api.data_api True module", f"module '{CLIENT}' has no attribute 'no_such_call'"]


def test_who_imported_it_before_keeps_what_they_have():
    code = f"""
import lancedb as before, sys
client = sys.modules.get("{CLIENT}")
from baywindow.documents.index.lance import lancedb
print(lancedb() is before, sys.modules.get("{CLIENT}") is client)
"""
    assert run(code) == "True True"
