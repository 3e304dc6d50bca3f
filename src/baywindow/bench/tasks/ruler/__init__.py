"""RULER: thirteen tasks of exact length, from one needle in noise to counting words and answering questions among distractors.

Paper: Hsieh et al. 2024, RULER: What's the Real Context Size of Your Long-Context Language Models? (arXiv 2404.06654). The code at
NVIDIA/RULER was read for the parameters, the prompts (used as published, since they are the test) and the scoring; none of it was copied.
"""

from __future__ import annotations

from baywindow.bench.base import Generated, Suite
from baywindow.bench.tasks.ruler._effective import THRESHOLD, effective_length
from baywindow.bench.tasks.ruler._frequency import common_words, frequent_words
from baywindow.bench.tasks.ruler._niah import Needles
from baywindow.bench.tasks.ruler._qa import Questions
from baywindow.bench.tasks.ruler._variables import tracking

__all__ = ["SUITE", "THRESHOLD", "effective_length"]

_NEEDLES = (
    (Needles(name="ruler.niah_single_1", haystack="noise"), "one number in repeated sentences", 512),
    (Needles(name="ruler.niah_single_2", haystack="essay"), "one number in natural text", 512),
    (Needles(name="ruler.niah_single_3", haystack="essay", value_kind="uuids"), "one uuid in natural text", 512),
    (Needles(name="ruler.niah_multikey_1", haystack="essay", keys=4), "one number in natural text, among three others", 512),
    (Needles(name="ruler.niah_multikey_2", haystack="needle"), "one number in a text of nothing but such numbers", 512),
    (
        Needles(name="ruler.niah_multikey_3", haystack="needle", key_kind="uuids", value_kind="uuids"),
        "one uuid, found by a uuid, in a text of nothing but such pairs",
        1024,
    ),
    (Needles(name="ruler.niah_multivalue", haystack="essay", values=4), "all four numbers of one key in natural text", 512),
    (Needles(name="ruler.niah_multiquery", haystack="essay", queries=4), "the numbers of four keys in natural text", 512),
)

SUITE = Suite(
    name="ruler",
    summary="thirteen synthetic tasks of exact length: needles, variable tracking, word counts, questions among distractors",
    paper="arXiv 2404.06654",
    year=2024,
    claim="a model perfect on plain needle retrieval at its claimed window falls below 85.6 on the average several doublings earlier",
    departures=(
        "the length is that of the prompt; the official length also counts the tokens to be generated",
        "natural text is the haystack's (the official one is essays that may not be copied here), so figures are not those of the paper",
        "the last unit of noise, text or distractor may be cut at a word, so that the length is exact",
        "a distracting needle never has a key that is asked for; the official one has it by chance, rarely",
        "cwe past the 8,166 words of wonderwords goes on with adjective-noun pairs; the official code has a longer list in a file",
        "fwe has a line break, not a space, before the coded text; the space belongs to the official template",
        "qa without the option data sets invented facts in natural text, since SQuAD and HotpotQA are not shipped; metadata says so",
        "qa_2 keeps only the supporting paragraphs of HotpotQA's ten at all lengths, so that it fits below 4k too",
    ),
    tasks=(
        *(
            Generated(
                name=task.name, summary=summary, scorer="includes_all", max_new_tokens=128, build=task, min_tokens=least, has_depth=True
            )
            for task, summary, least in _NEEDLES
        ),
        Generated(
            name="ruler.vt",
            summary="the five variables that end up with a value, through four assignments in noise",
            scorer="includes_all",
            max_new_tokens=30,
            build=tracking,
            min_tokens=1024,
        ),
        Generated(
            name="ruler.cwe",
            summary="the ten most common words of a numbered list",
            scorer="includes_all",
            max_new_tokens=120,
            build=common_words,
            min_tokens=1024,
        ),
        Generated(
            name="ruler.fwe",
            summary="the three most frequent words of a coded text",
            scorer="includes_all",
            max_new_tokens=50,
            build=frequent_words,
            min_tokens=1024,
        ),
        *(
            Generated(
                name=task.name,
                summary=summary,
                scorer="includes_any",
                max_new_tokens=32,
                options={"data": None},
                build=task,
                min_tokens=512,
                has_depth=True,
            )
            for task, summary in (
                (Questions(name="ruler.qa_1", dataset="squad", hops=1), "a question whose answer stands in one of many paragraphs"),
                (Questions(name="ruler.qa_2", dataset="hotpotqa", hops=2), "a question that needs two of many paragraphs"),
            )
        ),
    ),
)
