"""LongProc: follow a procedure over a long text and write every step of it down. A rule checks the reply."""

from __future__ import annotations

from baywindow.bench.base import Generated, Suite
from baywindow.bench.tasks.longproc._beliefs import tom_tracking
from baywindow.bench.tasks.longproc._countdown import countdown
from baywindow.bench.tasks.longproc._path import path_traversal
from baywindow.bench.tasks.longproc._shared import LEVELS, OPTIONS
from baywindow.bench.tasks.longproc._travel import travel_planning
from baywindow.bench.tasks.longproc._tsv import html_to_tsv

SUITE = Suite(
    name="longproc",
    summary="long procedural replies: rows of a page, a route, beliefs in a story, a search for a number or for a journey",
    paper="2501.05414",
    year=2025,
    claim="Models whose window covers the task lose accuracy as the reply grows from 500 to 2k tokens, though each step is the same.",
    departures=(
        "pseudo_to_code is left out: its programs come from a crowd-sourced set, and scoring would run code that a model wrote.",
        "Pages, cities, stories, numbers and journeys are generated, and the prompts are worded here; the levels are those of the reply's "
        "length in the paper (0.5k, 2k, 8k tokens), by the model's tokenizer.",
        "The published inputs have one length each. Here other cities or articles fill the length, and where a problem is short it stands "
        "at a depth in prose of the haystack.",
        "One worked example instead of two, so that short lengths are possible.",
        "travel_planning: only journeys with exactly one plan are used.",
    ),
    tasks=(
        Generated(
            name="longproc.html_to_tsv",
            summary="rows of one section of a page",
            scorer="longproc_rows",
            max_new_tokens=LEVELS["0.5k"][1],
            build=html_to_tsv,
            min_tokens=4096,
            options={"level": "0.5k"},
        ),
        Generated(
            name="longproc.path_traversal",
            summary="every step of the only route between two cities",
            scorer="longproc_route",
            max_new_tokens=LEVELS["0.5k"][1],
            build=path_traversal,
            min_tokens=2048,
            options=OPTIONS,
        ),
        Generated(
            name="longproc.tom_tracking",
            summary="what a person believes at every step of a story",
            scorer="longproc_beliefs",
            max_new_tokens=LEVELS["0.5k"][1],
            build=tom_tracking,
            min_tokens=2048,
            has_depth=True,
            options=OPTIONS,
        ),
        Generated(
            name="longproc.countdown",
            summary="the search for a way to a number",
            scorer="longproc_countdown",
            max_new_tokens=LEVELS["0.5k"][1],
            build=countdown,
            min_tokens=2048,
            has_depth=True,
            options=OPTIONS,
        ),
        Generated(
            name="longproc.travel_planning",
            summary="the search for an order of cities",
            scorer="longproc_plan",
            max_new_tokens=LEVELS["2k"][1],
            build=travel_planning,
            min_tokens=2048,
            has_depth=True,
            options={**OPTIONS, "level": "2k"},
        ),
    ),
)
