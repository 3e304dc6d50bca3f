"""The header of a .gguf file, read in well under a second: what it is, and how long the file must be.

The `gguf` package's own reader builds an array for every word of the vocabulary (a minute for Gemma's), too slow for a check before
the work. This walks the same layout (GGUF versions 2 and 3, little-endian) and skips what it does not need; block sizes come from
`gguf`. Layout: magic, version u32, tensor count u64, key count u64; key-value pairs; tensor table; padding; data.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from baywindow.errors import MissingExtraError, ModelError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT_BYTES = 32

Value = str | int | float | bool


@dataclass(frozen=True)
class Header:
    """``values`` holds scalars and strings (arrays are skipped); ``needed_bytes`` is the least length of a whole file."""

    values: dict[str, Value]
    tensors: int
    needed_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", "?"))


def read_header(path: Path) -> Header:
    """Walk the header. ModelError if the file is no GGUF, is cut short inside the header, or holds impossible values."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{path} is not a GGUF file", hint="a GGUF file begins with the letters GGUF; download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
                return _Walk(blob).header()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist", hint="check the path of the .gguf file") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    except (struct.error, UnicodeDecodeError, KeyError, ValueError, OverflowError) as error:
        raise damaged(path) from error


def damaged(path: Path, detail: str = "") -> ModelError:
    return ModelError(f"{path} is cut short or damaged{': ' + detail if detail else ''}", hint="download it again")


class _Walk:
    """A position in the mapped file that moves forward; reading past the end raises struct.error or ValueError."""

    def __init__(self, blob: mmap.mmap) -> None:
        self._blob = blob
        self._at = 4

    def header(self) -> Header:
        version = self._number("<I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}")
        tensors, keys = int(self._number("<Q")), int(self._number("<Q"))
        values: dict[str, Value] = {}
        for _ in range(keys):
            key = self._string()
            value = self._value(int(self._number("<I")))
            if value is not None:
                values[key] = value
        end = max((self._tensor_end() for _ in range(tensors)), default=0)
        alignment = int(values.get("general.alignment", _DEFAULT_ALIGNMENT_BYTES))
        start = -(-self._at // alignment) * alignment
        return Header(values, tensors, start + end)

    def _number(self, form: str) -> int | float | bool:
        (value,) = struct.unpack_from(form, self._blob, self._at)
        self._at += struct.calcsize(form)
        number: int | float | bool = value
        return number

    def _string(self) -> str:
        length = self._skip_string()
        return self._blob[self._at - length : self._at].decode("utf-8")

    def _skip_string(self) -> int:
        length = int(self._number("<Q"))
        self._skip(length)
        return length

    def _skip(self, length: int) -> None:
        if self._at + length > len(self._blob):
            raise ValueError("past the end")
        self._at += length

    def _value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._number(_SCALARS[kind])
        inner, count = int(self._number("<I")), int(self._number("<Q"))
        if inner == _STRING:
            for _ in range(count):
                self._skip_string()
        elif inner == _ARRAY:
            raise ValueError("an array of arrays")
        else:
            self._skip(count * struct.calcsize(_SCALARS[inner]))
        return None

    def _tensor_end(self) -> int:
        """Bytes from the start of the data to the end of this tensor."""
        self._skip_string()
        shape = [int(self._number("<Q")) for _ in range(int(self._number("<I")))]
        kind, offset = int(self._number("<I")), int(self._number("<Q"))
        block_values, block_bytes = _block(kind)
        return offset + -(-prod(shape) // block_values) * block_bytes


def _block(kind: int) -> tuple[int, int]:
    """Values and bytes of one block of a tensor type."""
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise MissingExtraError.of("what reads GGUF files (torch, transformers, gguf)", "local") from None
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return int(values), int(size)
