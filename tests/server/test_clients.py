"""Other people's clients, unmodified, in environments of their own (`python benchmarks/clients.py` makes them once)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

_path = Path(__file__).parents[2] / "benchmarks" / "clients.py"
_spec = importlib.util.spec_from_file_location("bench_clients", _path)
clients = importlib.util.module_from_spec(_spec)
sys.modules["bench_clients"] = clients  # its dataclass looks its own module up
_spec.loader.exec_module(clients)


@pytest.mark.slow
@pytest.mark.parametrize("client", clients.CLIENTS, ids=lambda client: client.name)
def test_an_unmodified_client_is_served(serve, talker, client):
    if not client.ready:
        pytest.skip(f"needs {client.name}: python benchmarks/clients.py {client.name}")
    server = serve(talker())
    command = client.command(f"{server.url}/v1", "talker", "word-hashes")
    done = subprocess.run(command, cwd=client.folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["refused"] in ("404 model_not_found", "404 None")
    assert {k: v for k, v in found.items() if k != "refused"} == {"chat": "Hello there.", "stream": "Hello there.", "vectors": 2, "dim": 64}
