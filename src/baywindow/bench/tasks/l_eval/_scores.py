"""How L-Eval's closed tasks read a reply. Each score names the published rule and what is mended."""

from __future__ import annotations

import re

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics.choice import chosen_letter

_LETTERS = "ABCD"
_FACT = re.compile(r"^(.*?)\s*\[fact:\s*(.*?)\]\s*$", re.DOTALL | re.IGNORECASE)


@metric
def l_eval_letter(reply: str, turn: Turn) -> float:
    """1 if the option chosen is the gold's, a letter or a string that begins with one in brackets (quality, tpo)."""
    return float(any(chosen_letter(reply) == chosen_letter(gold) != "" for gold in turn.gold))


@metric
def l_eval_letters(reply: str, turn: Turn) -> float:
    """Several options may be right (coursera): 1 for exactly those, a quarter for some of them and no wrong one."""
    said, gold = _letters(reply), set(turn.gold[0]) & set(_LETTERS)
    return 1.0 if said == gold else 0.25 if said and said < gold else 0.0


@metric
def l_eval_number(reply: str, turn: Turn) -> float:
    """The number after "the answer is", else the last of the reply's first paragraph (gsm100)."""
    return float(_number(reply) != "" and _number(reply) in {_number(gold) for gold in turn.gold})


@metric
def l_eval_topic(reply: str, turn: Turn) -> float:
    """1 if the reply holds the topic's name, letter case and blanks apart (topic_retrieval_longchat)."""
    return float(any(_solid(gold) in _solid(reply) for gold in turn.gold if gold.strip()))


@metric
def l_eval_code(reply: str, turn: Turn) -> float:
    """1 if the code's output stands at the end of the reply, or after "the final output" (codeU)."""
    return float(any(_solid(_output(gold)) in _solid(_tail(reply, _output(gold))) for gold in turn.gold if gold.strip()))


@metric
def l_eval_truth(reply: str, turn: Turn) -> float:
    """1 if the first of "true" and "false" in the reply is the gold (sci_fi)."""
    found = re.search(r"\b(true|false)\b", reply.lower())
    return float(found is not None and found.group() == turn.gold[0].strip().lower())


def story_and_fact(answer: str) -> tuple[str, str]:
    """``True [fact: False]`` as its two parts; an answer without the second is its own fact."""
    found = _FACT.match(answer)
    return (found.group(1), found.group(2)) if found else (answer.strip(), answer.strip())


def _letters(reply: str) -> set[str]:
    """Options chosen: the letters of a first line that is nothing else, or those marked as options ("A." or "(A)") anywhere before the next
    question. "A" before a word is an article."""
    said = reply.strip().split("Question")[0]
    first = said.split("\n")[0].strip(" \"'*()[].:")
    if re.fullmatch(r"[A-D](?:\s*(?:,|and|&|/|;)?\s*[A-D])*", first):
        return set(first) & set(_LETTERS)
    return set(re.findall(r"(?:^|[\s(\[*])([A-D])(?=[.):,\]*]|\s*$)", said, re.MULTILINE))


def _number(text: str) -> str:
    named = re.search(r"answer is:?\s*(\S+)", text, re.IGNORECASE)
    paragraph = text.strip().split("\n\n")[0]
    words = [named.group(1)] if named else [w for w in paragraph.split() if re.search(r"\d", w)][-1:]
    digits = re.sub(r"[^\d.]", "", words[0]) if words else ""
    return digits.split(".")[0]


def _solid(text: str) -> str:
    return re.sub(r"\s+", "", text.lower())


def _output(text: str) -> str:
    """A printed value in one form: no commas, quotes, back slashes or decimal zeros."""
    return re.sub(r"\.0\b", "", re.sub(r"[,'\"\\]", "", " ".join(text.split())))


def _tail(reply: str, gold: str) -> str:
    """Where the value is looked for: as many words as it has, and three more."""
    words = re.sub(r"\b(?:will be|would be|of the code|is|the value of|the result of|printed)\b", " ", _output(reply))
    room = len(gold.split()) + 3
    if "the final output" in words:
        return " ".join(words.split("the final output")[-1].split()[:room])
    return " ".join(words.split()[-room:])
