"""How answers are taken from a reply: behind the word that the question asked for, else by their form."""

from __future__ import annotations

import re

from baywindow.bench.base import Turn, metric


def _behind(word: str, reply: str) -> list[str]:
    """What stands behind ``word:`` on its line, each time, without quotes and braces."""
    found = re.findall(rf"\b{word}:([^\n]*)", reply, re.IGNORECASE)
    return [re.sub(r"[\"'{}\[\]*`]", "", text).strip(" .") for text in found]


def _key(reply: str) -> str:
    """The last key that the reply names, or else its last run of ten digits."""
    named = [text.split(":")[0].replace(" ", "") for text in _behind("key", reply)]
    digits = re.findall(r"\d{10,}", reply)
    return next((text for text in reversed(named) if text.isdigit()), digits[-1] if digits else "")


def _value(reply: str) -> str:
    named = re.findall(r"\bvalue:\D*(\d+)", reply, re.IGNORECASE)
    digits = re.findall(r"\d+", reply)
    return str((named or digits or [""])[-1])


@metric
def hyper_multi_step_value(reply: str, turn: Turn) -> float:
    """1 if the last ``value:`` of the reply, or else its last number, is gold."""
    return float(_value(reply) == turn.gold[0])


@metric
def hyper_multi_step_key(reply: str, turn: Turn) -> float:
    """1 if the last ``key:`` of the reply, or else its last ten-digit number, is gold."""
    return float(_key(reply) == turn.gold[0])


@metric
def hyper_multi_step_key_value(reply: str, turn: Turn) -> float:
    """Half a point for the key, half for its value. Gold is both, in this order."""
    key = re.findall(r"\bkey:\D*(\d+)", reply, re.IGNORECASE) or re.findall(r"\d{10}", reply) or [""]
    return (float(str(key[-1]) == turn.gold[0]) + float(_value(reply) == turn.gold[1])) / 2


@metric
def hyper_multi_step_keys(reply: str, turn: Turn) -> float:
    """1 if the keys behind the last ``keys:``, or else all ten-digit numbers of the reply, are the gold ones, whatever their order."""
    named = _behind("keys", reply)
    said = re.findall(r"\d{10,}", named[-1] if named and re.search(r"\d{10}", named[-1]) else reply)
    return float(set(said) == set(turn.gold))


@metric
def hyper_multi_step_name(reply: str, turn: Turn) -> float:
    """1 if what stands behind the first ``name:``, or else before the first colon, is the gold name, letter case apart."""
    named = _behind("name", reply)
    said = (named[0] if named else reply).split(":")[0].strip(" .\"'")
    return float(said.lower() == turn.gold[0].lower())


@metric
def hyper_multi_step_names(reply: str, turn: Turn) -> float:
    """1 if the names behind the first ``names:``, or else the whole reply taken as a list, are the gold ones, whatever their order."""
    named = _behind("names", reply)
    said = {name.strip(" .\"'").lower() for name in (named[0] if named else reply).split(",")}
    return float(said == {name.lower() for name in turn.gold})
