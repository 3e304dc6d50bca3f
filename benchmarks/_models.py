"""Where the models are that benchmarks name in short."""

from __future__ import annotations

from baywindow.home import cache_dir

QWEN = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def path_of(name: str) -> str:
    """``qwen`` is the file in the cache; other names are as `bay` takes them."""
    return str(cache_dir("models") / QWEN) if name == "qwen" else name
