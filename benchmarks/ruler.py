"""RULER here, in lm-eval 0.4.13 and, where it can be had, in NVIDIA's own repository: the same scores, and the speed of making samples.

    python benchmarks/ruler.py [--official FOLDER] [--samples 12] [--lengths 4096,32768] [--rounds 3]

scores   mixed replies to samples of all 13 tasks, scored by `bay bench`, by NVIDIA's functions and by lm-eval's task code
prompts  the wording around a sample's text, ours against theirs, names and numbers masked
speed    processor seconds a sample, the same tokenizer on both sides, in turns within one run; the reference without its search for
         the size, which is in its disfavour left out, so that the ratio is that of long runs

lm-eval runs in an environment of its own, made under the user's cache folder. NVIDIA's repository is cloned there if it can be reached,
or named by --official. Its data (essays, word list, SQuAD, HotpotQA) come from the network, so that five of its tasks run without it.
Writes results/ruler.md and results/ruler.json.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import time
from pathlib import Path
from typing import Any

import platformdirs
from _official_ruler import clone, commit, functions, generate
from _peer_lm_eval import PINS, Peer, environment
from _rows import write
from _ruler_tables import body, ratio

from baywindow.bench import find
from baywindow.bench.base import Generated, Order, Sample, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks._invented import invented
from baywindow.models.rendering import Renderer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOM = 128  # tokens that the reference leaves for the reply, at most
ROOMS = {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}
WARM = 2  # samples before the clock counts, on both sides


def tokenizer_file() -> Path:
    """The tokenizer of a model that is in the cache: Qwen's if there, else any."""
    models = Path(platformdirs.user_cache_dir("baywindow")) / "models"
    found = sorted(models.glob("*/tokenizer.json"), key=lambda p: ("qwen" not in p.parent.name, p))
    if not found:
        raise SystemExit("no model in the cache to take a tokenizer from: `bay ask` something with a local model first")
    return found[0]


class Bench:
    """Both sides with one tokenizer and one haystack."""

    def __init__(self, file: Path, seed: int = 0) -> None:
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), clean_up_tokenization_spaces=False)
        self.counter = TokenCounter(Renderer(tokenizer).count, file.parent.name)
        self.haystack = Haystack.installed()
        self.tasks = {t.name.removeprefix("ruler."): t for t in find.tasks("ruler") if isinstance(t, Generated)}
        self.seed = seed

    def order(self, tokens: int, seed: int) -> Order:
        return Order(tokens=tokens, seed=seed, counter=self.counter, haystack=self.haystack)

    def sample(self, task: str, tokens: int, seed: int) -> Sample:
        return self.tasks[task].sample(self.order(tokens, seed))

    def timed(self, task: str, tokens: int, samples: int) -> list[float]:
        """Processor seconds of each sample."""
        seconds = []
        for seed in range(samples):
            start = time.process_time()
            self.sample(task, tokens, seed)
            seconds.append(time.process_time() - start)
        return seconds


def kinds(task: str) -> dict[str, Any]:
    """The parameters of a needle task, by the names that lm-eval's generator has for them."""
    known = {
        "niah_single_1": {"type_haystack": "repeat"},
        "niah_single_3": {"type_needle_v": "uuids"},
        "niah_multikey_1": {"num_needle_k": 4},
        "niah_multikey_2": {"type_haystack": "needle"},
        "niah_multikey_3": {"type_haystack": "needle", "type_needle_k": "uuids", "type_needle_v": "uuids"},
        "niah_multivalue": {"num_needle_v": 4},
        "niah_multiquery": {"num_needle_q": 4},
    }
    return {"type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers", **known.get(task, {})}


def request(bench: Bench, task: str, tokens: int, samples: int) -> dict[str, Any]:
    """What the worker needs for one task: the words of our haystack, and questions over our passages."""
    asked: dict[str, Any] = {"do": "generate", "task": task, "tokens": tokens + ROOMS.get(task, ROOM), "samples": samples + WARM}
    if task.startswith("niah"):
        words = " ".join(bench.haystack.sentences).split()
        asked |= {"kinds": kinds(task), "words": words * (1 + tokens // len(words)) if kinds(task)["type_haystack"] == "essay" else []}
    if task.startswith("qa"):
        hops = 1 if task == "qa_1" else 2
        docs, qas = [], []
        for seed in range(samples + WARM):
            item, others = invented("ruler-benchmark", bench.order(tokens, seed), hops)
            qas.append({"query": item.question, "outputs": list(item.answers), "context": [len(docs) + i for i in range(len(item.needed))]})
            docs += [*item.needed, *(next(others).text for _ in range(tokens // 60 // (samples + WARM) + 2))]
        asked |= {"docs": docs, "qas": qas}
    return asked


def replies(turns: list[Turn], rng: random.Random) -> list[str]:
    """From silence to all of the gold, some of it shouted, some with a line break inside."""
    said = []
    for turn in turns:
        some = rng.sample(turn.gold, rng.randint(0, len(turn.gold)))
        text = rng.choice([", ", "\n", "\t"]).join(w.upper() if rng.random() < 0.5 else w for w in some)
        said.append(rng.choice(["", "Answer: ", "I think\n"]) + text if text else rng.choice(["", "I do not know."]))
    return said


def compare_scores(bench: Bench, peer: Peer | None, official: dict[str, Any] | None, samples: int) -> list[dict[str, Any]]:
    rows = []
    for task in bench.tasks:
        turns = [bench.sample(task, 1024, seed).asked[0] for seed in range(samples)]
        if task.startswith("qa"):  # as in SQuAD: several ways to say one answer
            turns = [Turn(question=t.question, gold=(*t.gold, t.gold[0] + " itself"), scorer=t.scorer) for t in turns]
        said = replies(turns, random.Random(task))
        ours = round(100 * statistics.fmean(find.score(r, t) for r, t in zip(said, turns, strict=True)), 2)
        gold = [list(t.gold) for t in turns]
        row = {"task": task, "n": samples, "ours": ours, "official": None, "lm_eval": None}
        if official is not None:
            kind = "string_match_part" if task.startswith("qa") else "string_match_all"
            row["official"] = official[kind]([official["clean"](r) for r in said], gold)
        if peer is not None:
            answer = peer.ask({"do": "score", "task": task, "replies": said, "gold": gold})
            row["lm_eval"] = round(100 * answer["score"], 2) if "score" in answer else answer["error"]
        rows.append(row)
    return rows


MASKS = (
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "KEY"),
    (r"(?<=for ).+?(?= mentioned)", "KEYS"),
    (r"(?<=Question: ).+\?$", "QUESTION"),
    (r"\d{4,}", "NUMBER"),
)


def frame(text: str, prefix: str) -> tuple[str, str, str]:
    """The first and the last line of a prompt, and the beginning of the answer, names and numbers masked."""
    lines = [line for line in text.split("\n") if line.strip()]
    first = lines[0] if len(lines[0]) < 400 else lines[0].split(". ")[0] + "."
    found = []
    for part in (first, lines[-1], prefix.strip()):
        for pattern, mask in MASKS if "QUESTION" not in part else ():
            part = re.sub(pattern, mask, part)
        found.append(" ".join(part.split()))
    return found[0], found[1], found[2]


def compare_prompts(ours: Sample, theirs: dict[str, Any]) -> str:
    """``same``, or what differs first."""
    a, b = frame(ours.prompt, ours.answer_prefix), frame(theirs["input"], theirs["prefix"])
    for name, mine, other in zip(("beginning", "question", "answer prefix"), a, b, strict=True):
        shorter = min(len(mine), len(other))
        if mine != other and not (name == "beginning" and mine[:shorter] == other[:shorter]):
            return f"{name}: “{mine}” here, “{other}” there"
    return "same"


def measure(bench: Bench, peer: Peer, lengths: list[int], samples: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for tokens in lengths:
        for task in bench.tasks:
            n = samples if tokens <= 8192 else max(3, samples // 3)
            ours, theirs, answer = [], [], {}
            for _ in range(rounds):
                ours.append(statistics.fmean(bench.timed(task, tokens, n + WARM)[WARM:]))
                answer = peer.ask(request(bench, task, tokens, n))
                if "error" in answer:
                    break
                theirs.append(statistics.fmean(answer["each"][WARM:]))
            row: dict[str, Any] = {"task": task, "tokens": tokens, "n": n, "rounds": rounds, "ours": ours, "lm_eval": theirs}
            if theirs:
                sample = bench.sample(task, tokens, 0)
                row |= {"prompt": compare_prompts(sample, answer), "searched": answer["searched"]}
                row |= {"filled": sample.metadata["tokens"] / tokens, "filled_there": answer["length"] / tokens}
            else:
                row["error"] = answer["error"]
            rows.append(row)
            print(f"  {tokens} {task}: {answer.get('error') or ratio(row)}", flush=True)
    return rows


def own_generators(bench: Bench, python: Path, folder: Path, file: Path, lengths: list[int], samples: int) -> list[dict[str, Any]]:
    rows = []
    for tokens in lengths:
        for task in ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "fwe"):
            n = samples if tokens <= 8192 else max(3, samples // 3)
            made = generate(python, folder, task, file.parent, tokens + ROOMS.get(task, ROOM), n + WARM)
            if "error" in made:
                print(f"  NVIDIA's {task}: {made['error']}", flush=True)
                continue
            ours = statistics.fmean(bench.timed(task, tokens, n + WARM)[WARM:])
            theirs = statistics.fmean(made["each"][WARM:])
            sample = bench.sample(task, tokens, 0)
            rows.append({"task": task, "tokens": tokens, "n": n, "ours": ours, "theirs": theirs, "prompt": compare_prompts(sample, made)})
            print(f"  NVIDIA's {task} {tokens}: {theirs / ours:.2f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--official", type=Path, help="a folder with NVIDIA's repository")
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--lengths", default="4096,32768")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lengths = [int(length) for length in options.lengths.split(",")]
    peers = Path(platformdirs.user_cache_dir("baywindow")) / "peers"
    file = tokenizer_file()
    bench = Bench(file)
    notes = [f"Tokenizer on both sides: that of {file.parent.name}, each side counting in its own way (here as a local model counts)."]
    python, folder = environment(peers), options.official or clone(peers)
    peer = Peer(python, file) if isinstance(python, Path) else None
    notes.append(f"lm-eval in an environment of its own: {', '.join(PINS)}." if peer else str(python))
    official = functions(folder) if isinstance(folder, Path) else None
    notes.append(f"NVIDIA/RULER at commit {commit(folder)}." if isinstance(folder, Path) else str(folder))
    scores = compare_scores(bench, peer, official, 40)
    speed = measure(bench, peer, lengths, options.samples, options.rounds) if peer else []
    own = own_generators(bench, python, folder, file, lengths, options.samples) if peer and official else []
    notes += [
        "Not compared offline: the essays. Both sides hide their needles in Python's own documentation.",
        "lm-eval splits sentences with a plain pattern here: the sentence model of nltk comes from the network. The pattern is faster.",
        "qa: lm-eval's generator got our invented questions and passages, since SQuAD and HotpotQA come from the network.",
        "lm-eval's qa score is the share of the alternative answers that a reply contains; NVIDIA's, and ours, is whether it has any.",
    ]
    if peer:
        peer.close()
    data = {"scores": scores, "speed": speed, "official_generators": own, "notes": notes}
    command = f"python benchmarks/ruler.py --samples {options.samples} --lengths {options.lengths} --rounds {options.rounds}"
    write("ruler", "RULER: scores and speed against the reference", body(scores, speed, own, notes), data, command)


if __name__ == "__main__":
    main()
