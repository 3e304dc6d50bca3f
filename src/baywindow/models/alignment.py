"""Weights that begin at a cache line.

The safetensors format puts tensors behind a header of any length, so a file that is mapped lies across cache lines with every row of every
weight, and reading it for a decoded token takes a tenth longer (notes/models.md). The format allows blanks behind the header.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LINE_BYTES = 64


def align(folder: Path) -> None:
    """Let the tensors of each safetensors file in ``folder`` begin at a multiple of 64 bytes. A file is replaced in one step, or stays."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            blanks = -(8 + length) % LINE_BYTES
            if not blanks:
                continue
            header = file.read(length)
            written = path.with_suffix(".aligned")
            with written.open("wb") as new:
                new.write((length + blanks).to_bytes(8, "little") + header + b" " * blanks)
                shutil.copyfileobj(file, new, 16 << 20)
        os.replace(written, path)
