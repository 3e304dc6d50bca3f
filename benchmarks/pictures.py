"""The pictures of docs/inside.md: which tokens of a natural text a real model keeps, per layer and key/value head.

    python benchmarks/pictures.py [--tokens 900]

Needs the converted Qwen2.5-Coder-0.5B (see benchmarks/window.py). The text is prose of Python's own documentation with a number hidden
in it, and the question stays out of the compression. Writes docs/pictures/NAME.svg and prints what was kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from baywindow.window import attach
from window import folders, sample

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
RECIPES = {
    "streaming_llm": "streaming_llm(budget_tokens=256)",
    "snapkv": "snapkv(budget_tokens=256)",
    "kvzip": "kvzip(budget_tokens=256)",
}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=900, help="of natural text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    found = folders(["qwen"])
    if not found:
        raise SystemExit(1)
    model = AutoModelForCausalLM.from_pretrained(found["qwen"], dtype="bfloat16").eval()
    tokenizer = AutoTokenizer.from_pretrained(found["qwen"])
    ids = torch.tensor([sample(0, tokenizer, options.tokens)["context"]])
    PICTURES.mkdir(exist_ok=True)
    for name, recipe in RECIPES.items():
        with attach(model, recipe, tokenizer=tokenizer) as w:
            cache = w.prefill(ids)
            (PICTURES / f"{name}.svg").write_text(w.picture(cache) + "\n", encoding="utf-8")
            print(w.report(cache), end="\n\n")


if __name__ == "__main__":
    main()
