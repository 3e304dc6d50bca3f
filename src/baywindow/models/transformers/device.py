"""Where a local model runs and in which number format. Read from what the hardware states, never timed: a busy machine must not
change an answer.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from baywindow.errors import ConfigError

_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # x86, x86, ARM


def device_of(asked: str) -> torch.device:
    """``auto`` is the first of cuda, mps, cpu that is there. ConfigError for one that is not."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ConfigError.bad_value("device", asked, "auto, cpu, cuda, cuda:N or mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device {asked!r} is not there", hint="use auto or cpu, or install the torch build for your hardware")
    return device


def dtype_of(asked: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the device computes in it, else float32."""
    if asked == "auto":
        return torch.bfloat16 if has_bf16(device.type) else torch.float32
    if asked not in _FORMATS:
        raise ConfigError.bad_value("dtype", asked, "auto, " + ", ".join(_FORMATS))
    return _FORMATS[asked]


@cache
def has_bf16(kind: str) -> bool:
    """Whether the hardware multiplies bfloat16 itself; emulated bfloat16 is slower than float32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return bool(_CPU_FLAGS & _cpu_flags())


def _cpu_flags() -> frozenset[str]:
    stated: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    found = {name for name, value in stated.items() if value is True}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, rest = line.partition(":")
            if key.strip().lower() in {"flags", "features"}:
                return frozenset(found | set(rest.split()))
    return frozenset(found)
