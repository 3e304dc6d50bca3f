"""What a model says that somebody said, held against what they said.

Extracted facts are a layer on top of verbatim turns; the commonest fault of that layer is invention. Three checks, none of which asks
a model: the quoted words occur in the turn (`holds`), the fact brings no name or number that was not there (`unsaid`), and it says who
it is about (`attributed`): "I" and "she" mean nothing once the turn is out of sight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from baywindow.documents.words import STOP_WORDS, folded, words
from baywindow.memory.dates import NUMBERS

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+|[\"“(])\s*$")
_FIRST_PERSON = re.compile(r"\b(?:I|I['’](?:m|ve|d|ll)|me|my|mine|myself|we|us|our|ours)\b")
_LEADING_PRONOUN = re.compile(r"^\W*(?:he|she|they|it|you|his|her|their|your|its|this|that)\b", re.IGNORECASE)
_AUXILIARIES = frozenset({"is", "was", "has", "had", "does", "did", "will", "would", "can", "could"})
_LEAST_QUOTE = 2  # words: one word occurs anywhere


def holds(text: str, quote: str) -> bool:
    """Whether a text holds the quoted words, in their order and side by side; case, accents and punctuation aside."""
    least = min(_LEAST_QUOTE, len(_plain(text).split()))
    return len(_plain(quote).split()) >= least and names(text, quote)


def names(text: str, thing: str) -> bool:
    """Whether a text has these words side by side, a single one too; never true of no word."""
    wanted = _plain(thing)
    return bool(wanted) and f" {wanted} " in f" {_plain(text)} "


def unsaid(fact: str, said: Iterable[str]) -> list[str]:
    """Names and numbers of a fact that occur in none of the texts: a sign that a model made them up."""
    known = " ".join(said)
    stems = set(words(known))
    numbers = {n.lstrip("0") for n in _NUMBER.findall(known)} | {str(NUMBERS[w]) for w in known.lower().split() if w in NUMBERS}
    missing = [n for n in _NUMBER.findall(fact) if n.lstrip("0") not in numbers]
    for match in _WORD.finditer(fact):
        starts = bool(_SENTENCE_START.search(fact[: match.start()]))
        name = match.group()[0].isupper() and (not starts or _begins_with_a_name(match.group(), fact[match.end() :]))
        if name and not set(words(match.group())) <= stems:
            missing.append(match.group())
    return missing


def shares_words(fact: str, said: Iterable[str]) -> bool:
    """Whether a fact shares at least one word that is no stop word with the texts it is said to come from."""
    return bool(set(words(fact)) & set(words(" ".join(said))))


def attributed(fact: str, speaker: str) -> str:
    """The fact as it stands if it says who it is about; else with the speaker in front, in whose mouth its pronouns are right."""
    fact = " ".join(fact.split())
    if speaker and (_FIRST_PERSON.search(fact) or _LEADING_PRONOUN.search(fact)):
        return f"{speaker} said: {fact}"
    return fact


def _begins_with_a_name(word: str, rest: str) -> bool:
    """Whether the capital at the start of a sentence may be that of a name: another name, a verb or what it owns follows ("John Doe",
    "Tom hates", "Tom's").
    """
    following = _WORD.match(rest.lstrip(" "))
    if following is None:
        return False
    after = following.group()
    verb = after in _AUXILIARIES or (after not in STOP_WORDS and after.endswith(("s", "ed")))
    return after[0].isupper() or verb or word.endswith(("'s", "’s"))


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(folded(text.replace("’", "'"))))
