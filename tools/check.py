"""The whole check, the same at home and in CI: format, lint, strict types, generated docs unchanged, tests with warnings as errors.

    python tools/check.py            everything (what `make test` runs)
    python tools/check.py --fast     without tests marked slow or model
    python tools/check.py types      one stage, or some

Every stage runs even if an earlier one failed; the last lines name those that did. Tests come last, so that their closing
line is the end of the output.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "tests", "tools", "examples", "benchmarks")


def stages(fast: bool) -> dict[str, list[str]]:
    """Name to command line. Each command is a module of this very Python, so no PATH decides what runs."""
    code = [name for name in CODE if (ROOT / name).exists()]
    # Real models hold memory and both cores by themselves: test processes side by side would only compete.
    tests = ["pytest", *(["-m", "not slow and not model"] if fast else [])]
    return {
        "format": ["ruff", "format", "--check", *code],
        "lint": ["ruff", "check", *code],
        "types": ["mypy"],
        "docs": ["tools/docs.py", "--check"],
        "tests": tests,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the whole check.")
    parser.add_argument("--fast", action="store_true", help="leave out tests marked slow or model")
    parser.add_argument("stage", nargs="*", help="run only these stages")
    options = parser.parse_args(argv)
    commands = stages(options.fast)
    if unknown := [name for name in options.stage if name not in commands]:
        parser.error(f"no stage is called {unknown[0]!r}; there are {', '.join(commands)}")
    failed = [name for name in options.stage or commands if not run(name, commands[name])]
    print(f"[check] failed: {', '.join(failed)}" if failed else "[check] all stages passed", flush=True)
    return 1 if failed else 0


def run(name: str, command: list[str]) -> bool:
    """Run one stage in the project's root, print its verdict; True if it passed."""
    print(f"[check] {name} …", flush=True)
    started = time.monotonic()
    line = [sys.executable, *([] if command[0].endswith(".py") else ["-m"]), *command]
    passed = subprocess.run(line, cwd=ROOT, check=False, env={**os.environ, "PYTHONUTF8": "1"}).returncode == 0
    print(f"[check] {name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
