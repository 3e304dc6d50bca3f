"""Michelangelo: a structure must be kept track of in the text before it can be asked about (Latent List, MRCR, IDK)."""

from __future__ import annotations

from baywindow.bench.base import Generated, Suite
from baywindow.bench.tasks.michelangelo._idk import idk
from baywindow.bench.tasks.michelangelo._latent_list import latent_list
from baywindow.bench.tasks.michelangelo._mrcr import mrcr

SUITE = Suite(
    name="michelangelo",
    summary="latent structure: follow a list through code, reproduce the i-th of several equal requests, say when it is not known",
    paper="2409.12640",
    year=2024,
    claim="The MRCR score falls well before the window's end and with the number of same-request replies, where one needle is still found.",
    departures=(
        "Latent List: the paper's approximate accuracy is not in public code; a view counts only if it is exactly right.",
        "Latent List and IDK: the paper's texts are not public; operations, fillers and stories are written here from its description.",
        "MRCR: replies are passages of the haystack instead of a model's poems and mails; a request says nothing of its reply's text.",
        "MRCR: no worked examples stand before the chat; scored as MRCR v2 in its public code, the random string anywhere in the reply.",
    ),
    tasks=(
        Generated(
            name="michelangelo.latent_list",
            summary="state of a Python list after operations of which most cancel out",
            scorer="michelangelo_view",
            build=latent_list,
            options={"operations": 5},
        ),
        Generated(
            name="michelangelo.mrcr",
            summary="reproduce the i-th of n replies to one request from a long chat",
            scorer="michelangelo_mrcr",
            max_new_tokens=512,
            build=mrcr,
            min_tokens=1024,
            has_depth=True,
            options={"needles": 2},
        ),
        Generated(
            name="michelangelo.idk",
            summary="four choices about a story in a longer text, one of them not knowing",
            scorer="michelangelo_choice",
            max_new_tokens=16,
            build=idk,
            has_depth=True,
            options={"unanswerable": 0.7},
        ),
    ),
)
