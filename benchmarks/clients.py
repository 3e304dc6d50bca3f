"""Makes environments for other people's clients of OpenAI's API, which the tests then run unmodified against a real server.

    python benchmarks/clients.py            all of them, once; they stay in the cache folder
    python benchmarks/clients.py node       one

Node's own `openai`, LangChain's and LlamaIndex's OpenAI classes, each in a place of its own and with a pinned version.
`tests/server/test_clients.py` runs those that are there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from baywindow.home import cache_dir

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Client:
    """One client: its script, and what must be installed for it."""

    name: str
    script: Path
    packages: tuple[str, ...]
    node: bool = False

    @property
    def folder(self) -> Path:
        return cache_dir("clients", self.name)

    @property
    def ready(self) -> bool:
        return (self.folder / "complete").exists()

    def command(self, *arguments: str) -> list[str]:
        runner = shutil.which("node") or "node" if self.node else str(self.folder / "bin" / "python")
        return [runner, str(self.script), *arguments]


CLIENTS = (
    Client("node", HERE / "_client_node.mjs", ("openai@7.55.0",), node=True),
    Client("langchain", HERE / "_client_langchain.py", ("langchain-openai>=1,<2",)),
    Client(
        "llamaindex",
        HERE / "_client_llamaindex.py",
        ("llama-index-llms-openai-like>=0.5,<1", "llama-index-embeddings-openai-like>=0.2,<1"),
    ),
)


def install(client: Client) -> str:
    """Make its environment; one line of what is wrong if it cannot be made."""
    if client.ready:
        return ""
    if client.node:
        (client.folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        commands = [[shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *client.packages]]
    else:
        python = str(client.folder / "bin" / "python")
        commands = [[sys.executable, "-m", "venv", str(client.folder)], [python, "-m", "pip", "install", "--quiet", *client.packages]]
    for command in commands:
        try:
            done = subprocess.run(command, cwd=client.folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"{command[0]} is not installed"
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
    (client.folder / "complete").touch()
    return ""


def main() -> int:
    wanted = sys.argv[1:] or [client.name for client in CLIENTS]
    failed = 0
    for client in CLIENTS:
        if client.name in wanted:
            wrong = install(client)
            failed += bool(wrong)
            print(f"{client.name}: {wrong or client.folder}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
