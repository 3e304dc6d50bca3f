"""lm-eval in an environment of its own: this file makes the environment, and runs inside it as a worker.

Worker: `python _peer_lm_eval.py TOKENIZER_JSON` reads one JSON request a line and answers with one line, RESULT and JSON. With
`official SCRIPT ARGUMENTS…` it runs one of NVIDIA's generators and tells its times. It imports nothing of Baywindow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PINS = ("lm_eval==0.4.13", "transformers==5.2.0", "nltk==3.9.2", "wonderwords==3.0.1", "scipy>=1.13", "requests>=2.32", "tenacity>=9")


class Peer:
    """A running worker. `ask` returns its answer, or an ``error`` in its own words."""

    def __init__(self, python: Path, tokenizer_file: Path) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([str(python), __file__, str(tokenizer_file)], text=True, env=env, **pipes)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))  # type: ignore[no-any-return]
        return {"error": f"the worker ended with code {self._process.wait()}"}

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def environment(root: Path) -> Path | str:
    """The Python of lm-eval's environment under ``root``, made on first use; or one line saying why there is none."""
    folder = root / "lm-eval-0.4.13"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "complete"
    if done.exists() and done.read_text() == " ".join(PINS):
        return python
    print(f"making an environment for lm-eval in {folder} (once)", flush=True)
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "--quiet", *PINS]):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"no environment for lm-eval: {(made.stderr.strip().splitlines() or ['without a word'])[-1]}"
    done.write_text(" ".join(PINS))
    return python


class Stamps:
    """In the place of the reference's progress bar: notes the processor seconds of every turn of its loop over samples."""

    def __init__(self) -> None:
        self.searched = 0.0
        self.each: list[float] = []
        self._start = time.process_time()

    def __call__(self, loop: Any, **_: Any) -> Any:
        last = time.process_time()
        self.searched = last - self._start
        for turn in loop:
            yield turn
            now = time.process_time()
            self.each.append(now - last)
            last = now


def worker(tokenizer_file: str) -> None:
    import nltk
    from transformers import PreTrainedTokenizerFast

    nltk.download = lambda *_, **__: False  # its sentence model is on the hub of nltk; without it a plain splitter stands in
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, clean_up_tokenization_spaces=False)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = scores(request) if request["do"] == "score" else generated(request, tokenizer)
        except Exception as error:  # the peer's failure is a result
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"}
        print("RESULT " + json.dumps(answer), flush=True)


def scores(request: dict[str, Any]) -> dict[str, Any]:
    """The mean over replies of what lm-eval's task gives, as its own aggregation makes it."""
    from lm_eval.tasks.ruler import common_utils as code

    process = code.process_results_part if request["task"].startswith("qa") else code.process_results
    pairs = zip(request["replies"], request["gold"], strict=True)
    found = [process({"max_length": 4096, "outputs": gold}, [reply])["4096"] for reply, gold in pairs]
    return {"score": code.aggregate_metrics(found)}


def generated(request: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Samples of one task by lm-eval's generator: processor seconds of each, of the search for the size before, and the first one."""
    stamps, made = Stamps(), None
    task, tokens, count = request["task"], request["tokens"], request["samples"]
    if task.startswith("niah"):
        made = _needles(request, tokenizer, stamps)
    elif task == "vt":
        from lm_eval.tasks.ruler import vt_utils as code

        code.tqdm = Stamps()
        example = code.sys_vartrack_w_noise_random(tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5)[0]
        code.tqdm = stamps
        made = code.sys_vartrack_w_noise_random(tokenizer=tokenizer, num_samples=count, max_seq_length=tokens, icl_example=example)
    elif task == "cwe":
        from lm_eval.tasks.ruler import cwe_utils as code

        code.tqdm = stamps
        made = code.sys_word_pair_random(num_samples=count, max_seq_length=tokens, tokenizer=tokenizer)
        made[0]["input"] = made[0]["input_example"] + "\n" + made[0]["input"]
    elif task == "fwe":
        from lm_eval.tasks.ruler import fwe_utils as code

        code.tqdm = stamps
        made = code.sys_kwext(tokenizer=tokenizer, max_seq_length=tokens, num_samples=count)
    else:
        from lm_eval.tasks.ruler import qa_utils as code

        code.tqdm = stamps
        made = code.generate_samples(tokenizer, request["docs"], request["qas"], max_seq_length=tokens, num_samples=count)
    first = made[0]
    length = len(tokenizer(first["input"]).input_ids)
    return {"searched": stamps.searched, "each": stamps.each, "input": first["input"], "prefix": first["gen_prefix"], "length": length}


def _needles(request: dict[str, Any], tokenizer: Any, stamps: Stamps) -> Any:
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    try:
        prepare_niah.sent_tokenize("One. Two.")
    except LookupError:
        split = re.compile(r"(?<=[.!?])\s+")
        prepare_niah.sent_tokenize = lambda text: split.split(text)
        prepare_niah.cached_sent_tokenize.cache_clear()
    prepare_niah.tqdm = stamps
    kinds = dict(request["kinds"])
    haystack = request["words"] if kinds["type_haystack"] == "essay" else prepare_niah.get_haystack(kinds["type_haystack"])
    tokens, count = request["tokens"], request["samples"]
    # the word list is made at import, before the clock
    stamps._start = time.process_time()
    return prepare_niah.generate_samples(
        haystack, tokenizer, max_seq_length=tokens, num_samples=count, template=niah_utils.TEMPLATE, **kinds
    )


def official(script: str, arguments: list[str]) -> None:
    """NVIDIA's own generator, unchanged: only its progress bar is replaced, to note the times."""
    import runpy

    import tqdm
    from transformers import AutoTokenizer  # before the bar is replaced: what it imports names its type

    AutoTokenizer.from_pretrained(arguments[arguments.index("--tokenizer_path") + 1])
    stamps = Stamps()
    tqdm.tqdm = stamps
    sys.path.insert(0, str(Path(script).parent))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    print("RESULT " + json.dumps({"each": stamps.each}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "official":
        official(sys.argv[2], sys.argv[3:])
    else:
        worker(sys.argv[1])
