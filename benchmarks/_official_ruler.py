"""NVIDIA's RULER repository, where it can be had: its scoring functions, and its generators run unchanged."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL = "https://github.com/NVIDIA/RULER"
WORKER = Path(__file__).with_name("_peer_lm_eval.py")
NEEDLE = ["--num_needle_k", "1", "--num_needle_v", "1", "--num_needle_q", "1"]
KINDS = ["--type_needle_k", "words", "--type_needle_v", "numbers"]
UUIDS = ["--type_needle_k", "uuids", "--type_needle_v", "uuids"]
# Of scripts/synthetic.yaml: the tasks whose generators read no file that comes from the network.
TASKS: dict[str, tuple[str, str, list[str]]] = {
    "niah_single_1": ("niah", "niah", ["--type_haystack", "noise", *KINDS, *NEEDLE]),
    "niah_multikey_2": ("niah", "niah", ["--type_haystack", "needle", *KINDS, *NEEDLE]),
    "niah_multikey_3": ("niah", "niah", ["--type_haystack", "needle", *UUIDS, *NEEDLE]),
    "vt": ("variable_tracking", "variable_tracking", ["--type_haystack", "noise", "--num_chains", "1", "--num_hops", "4"]),
    "fwe": ("freq_words_extraction", "freq_words_extraction", ["--alpha", "2.0"]),
}


def clone(root: Path) -> Path | str:
    """The repository under ``root``, fetched on first use; or one line saying why it is not there."""
    folder = root / "RULER"
    if (folder / "scripts").is_dir():
        return folder
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        command = ["git", "clone", "--quiet", "--depth", "1", URL, str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"NVIDIA's repository could not be fetched: {error}"
    return f"NVIDIA's repository could not be fetched: {made.stderr.strip().splitlines()[-1]}" if made.returncode else folder


def commit(folder: Path) -> str:
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def functions(folder: Path) -> dict[str, Callable[..., Any]]:
    """The scoring functions of its evaluation, and what it does to a reply before (control characters become line breaks)."""
    found = runpy.run_path(str(folder / "scripts" / "eval" / "synthetic" / "constants.py"))
    return {
        "string_match_all": found["string_match_all"],
        "string_match_part": found["string_match_part"],
        "clean": lambda reply: re.sub(r"[\x00-\x1f]", "\n", reply.strip()).strip(),
    }


def generate(python: Path, folder: Path, task: str, tokenizer: Path, tokens: int, samples: int) -> dict[str, Any]:
    """Processor seconds of each sample, and the first sample; or its ``error``."""
    script, config, options = TASKS[task]
    data = folder / "scripts" / "data" / "synthetic"
    base = runpy.run_path(str(data / "constants.py"))["TASKS"][config]
    with tempfile.TemporaryDirectory() as place:
        command = [str(python), str(WORKER), "official", str(data / f"{script}.py"), "--save_dir", place, "--save_name", task]
        command += ["--tokenizer_path", str(tokenizer), "--tokenizer_type", "hf", "--max_seq_length", str(tokens)]
        command += ["--tokens_to_generate", str(base["tokens_to_generate"]), "--num_samples", str(samples), *options]
        command += ["--template", base["template"] + base["answer_prefix"]]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode or not found:
            return {"error": (done.stderr.strip().splitlines() or ["without a word"])[-1]}
        made = json.loads((Path(place) / task / "validation.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return {**json.loads(found[-1].removeprefix("RESULT ")), "input": made["input"], "prefix": made["answer_prefix"]}
