"""Transformers' reading of a GGUF made bearable: the header parsed once instead of once for each of configuration, weights and
tokenizer, and its progress told to whoever asked instead of a bar of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

SAID_EVERY = 20  # tensors


@contextmanager
def read_once(say: Callable[[str], None]) -> Iterator[None]:
    """For the block, every reader that transformers makes of one file is the same reader. Needs transformers and gguf."""
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils

    class Reader(gguf.GGUFReader):  # type: ignore[misc]  # the library has no types
        """Parses a view of the mapped file: cutting the map itself costs a call of Python's for each of a million strings."""

        def _build_fields(self, offs: int, count: int) -> int:
            self.data: Any = self.data.view(np.ndarray)
            return int(super()._build_fields(offs, count))

    made: dict[str, Reader] = {}

    def reader(path: str) -> Reader:
        if path not in made:
            made[path] = Reader(path)
        return made[path]

    def told(items: Collection[Any], **_: Any) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number % SAID_EVERY == 0:
                say(f"unpacking: {number} of {len(items)} tensors")
            yield item

    theirs = gguf.GGUFReader, modeling_gguf_pytorch_utils.tqdm
    gguf.GGUFReader, modeling_gguf_pytorch_utils.tqdm = reader, told
    try:
        yield
    finally:
        gguf.GGUFReader, modeling_gguf_pytorch_utils.tqdm = theirs
