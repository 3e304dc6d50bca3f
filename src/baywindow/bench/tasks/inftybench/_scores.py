"""InfiniteBench's own scores."""

from __future__ import annotations

import re

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics.choice import chosen_letter

_MARKS = str.maketrans(dict.fromkeys("\n:\"'.,?!{}", " "))
_CODE_MARKS = str.maketrans(dict.fromkeys("\n.`'\":", " "))


@metric
def inftybench_first_digits(reply: str, turn: Turn) -> float:
    """1 if the first run of digits in the reply is the gold (passkey, number_string)."""
    found = re.search(r"[0-9]+", reply)
    return float(found is not None and found.group() in turn.gold)


@metric
def inftybench_word(reply: str, turn: Turn) -> float:
    """1 if the gold is among the reply's words, marks left out (kv_retrieval)."""
    return float(bool(set(reply.translate(_MARKS).split()) & set(turn.gold)))


@metric
def inftybench_name(reply: str, turn: Turn) -> float:
    """1 if the name is among the reply's words, in capitals (longdialogue_qa_eng).

    The first of the accepted names counts, as published; a name of several words can be right too, which in the published code it cannot.
    """
    words = " ".join(reply.translate(_MARKS).upper().split())
    return float(bool(turn.gold) and bool(re.search(rf"(?<!\S){re.escape(turn.gold[0].upper())}(?!\S)", words)))


@metric
def inftybench_number(reply: str, turn: Turn) -> float:
    """1 if the first number of the reply equals the gold, whole or decimal (math_find)."""
    found = re.search(r"\d+\.\d+|\d+", reply)
    return float(found is not None and any(float(found.group()) == float(gold) for gold in turn.gold))


@metric
def inftybench_last_word(reply: str, turn: Turn) -> float:
    """1 if the reply's last word is the number that the call returns (code_run)."""
    words = reply.translate(_CODE_MARKS).split()
    return float(bool(words) and bool(re.fullmatch(r"-?\d+", words[-1])) and int(words[-1]) in {int(gold) for gold in turn.gold})


@metric
def inftybench_option(reply: str, turn: Turn) -> float:
    """1 for the right letter, or behind an answer cue for the right option's text (longbook_choice_eng, code_debug)."""
    letter, text = turn.gold[0], turn.gold[1] if len(turn.gold) > 1 else turn.gold[0]
    said = " ".join(re.sub(r"[`'\"*-]", " ", reply).split())
    cued = re.search(r"(?:is|answer|option)\s*:\s*(?:[Oo]ption )?(.+)", said) or re.search(r"(?:answer|option) is (.+)", said)
    named = cued is not None and (cued.group(1).startswith(text) or re.match(rf"{letter}(?!\w)", cued.group(1)) is not None)
    return float(named or chosen_letter(reply) == letter or reply.strip() == text)


@metric
def inftybench_steps(reply: str, turn: Turn) -> float:
    """How far the values are right without a break, over their number (math_calc), with or without the expression's first number."""
    gold = re.findall(r"\d+", turn.gold[0])
    said = re.findall(r"\d+", reply)
    without = said[1:] if said[:1] == [str(turn.metadata.get("first", ""))] else said
    return max(_common_beginning(said, gold), _common_beginning(without, gold)) / len(gold) if gold else 0.0


def first_operand(expression: str) -> str:
    """The number that an expression begins with; "" if it begins with none."""
    found = re.match(r"\s*(\d+)", expression)
    return found.group(1) if found else ""


def _common_beginning(one: list[str], other: list[str]) -> int:
    n = 0
    while n < min(len(one), len(other)) and int(one[n]) == int(other[n]):
        n += 1
    return n
