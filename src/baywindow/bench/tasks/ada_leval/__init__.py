"""Ada-LEval: tasks that need the whole text at any length, pieces to sort and a best answer to find."""

from __future__ import annotations

from baywindow.bench.base import Generated, Loaded, Suite
from baywindow.bench.tasks.ada_leval._best_answer import best_answer
from baywindow.bench.tasks.ada_leval._files import WHERE, stackselect, textsort
from baywindow.bench.tasks.ada_leval._tsort import tsort

SUITE = Suite(
    name="ada_leval",
    summary="sort four pieces of a text (TSort); find the best of many answers (BestAnswer)",
    paper="2404.06480",
    year=2024,
    claim="BestAnswer falls with the number of candidates while a single pair stays easy; TSort stays at chance (4.2 %) for small models.",
    departures=(
        "TSort is made from the haystack; one shorter than the sample repeats, and then only the joints of the pieces tell their order: "
        "name a folder of books for the published difficulty.",
        "BestAnswer from the haystack asks how a passage goes on, since forum answers may not be copied here: `stackselect` reads the "
        "published files.",
        "The question stands after the answers, not before them, so that all tasks have one form.",
        "A list shorter than four does not count as an order; in the published code it can.",
    ),
    tasks=(
        Generated(
            name="ada_leval.tsort",
            summary="the order of four pieces of a running text",
            scorer="ada_leval_order",
            max_new_tokens=64,
            build=tsort,
            min_tokens=1024,
        ),
        Generated(
            name="ada_leval.best_answer",
            summary="which of many passages continues the one given",
            scorer="ada_leval_designation",
            max_new_tokens=16,
            build=best_answer,
            min_tokens=1024,
            has_depth=True,
        ),
        Loaded(
            name="ada_leval.stackselect",
            summary="the published BestAnswer: the accepted answer to a forum question",
            scorer="ada_leval_designation",
            max_new_tokens=1024,
            load=stackselect,
            where=WHERE,
        ),
        Loaded(
            name="ada_leval.textsort",
            summary="the published TSort: segments of books",
            scorer="ada_leval_order",
            max_new_tokens=1024,
            load=textsort,
            where=WHERE,
        ),
    ),
)
