"""`bay ask` with the embedded model in a process of its own: seconds from its start to the first piece of the model's reply.

python _ours_start.py STARTED INDEX SOURCE [--no-server]      STARTED is the parent's clock when it started this process
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from baywindow.cli import opening
from baywindow.cli.main import app

QUESTION = "What is a recipe?"


def main(started: str, index: str, source: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    open_model = opening.model

    def noted(pieces: Iterator[str]) -> Iterator[str]:
        for piece in pieces:
            found.setdefault("seconds", time.time() - float(started))
            found.setdefault("processor_seconds", time.process_time())
            yield piece

    def opened(*args: Any, **options: Any) -> Any:
        model = open_model(*args, **options)
        found["served"] = "transformers" not in sys.modules  # nothing was loaded here
        generate = model.generate

        def watched(*args: Any, **options: Any) -> Any:
            stream = generate(*args, **options)
            stream._pieces = noted(stream._pieces)
            return stream

        model.generate = watched  # type: ignore[method-assign]
        return model

    opening.model = opened
    app(["ask", QUESTION, source, "--model", "embedded", "--index", index, *more], standalone_mode=False)
    return found


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
