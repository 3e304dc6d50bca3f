"""What the inside of a model drops is written into the trace, by position and by share."""

from __future__ import annotations

import numpy as np

import baywindow as bay
from baywindow.context.evicted import with_evicted
from baywindow.models.base import Held, Message
from baywindow.trace import Region

DOCUMENT = "....one two ttt four"  # the passage begins at offset 4
PASSAGE = DOCUMENT[4:]
PROMPT = [Message("system", "Be brief"), Message("user", f"{PASSAGE} | two?")]
TEXT = f"<s>Be brief<u>{PASSAGE} | two?<a>"
REGIONS = (
    Region(kind="system", tokens=2, fate="kept"),
    Region(kind="passage", tokens=4, fate="kept", source="a.txt", start=4, end=20),
    Region(kind="passage", tokens=9, fate="left_out", source="b.txt", start=0, end=30),
    Region(kind="question", tokens=1, fate="kept"),
    Region(kind="other", tokens=4, fate="kept"),
)


def held(**share: float) -> Held:
    """A token for every stretch here; those that are not named are held by all heads."""
    words = ["<s>", "Be", " brief", "<u>", "one", " two", " ttt", " four", " |", " two?", "<a>"]
    ends = np.cumsum([len(w) for w in words])
    values = [share.get(w.strip(" ?<>|"), 1.0) for w in words]
    values[9] = share.get("question", 1.0)
    return Held(TEXT, np.stack([ends - [len(w) for w in words], ends], axis=1), np.array(values, dtype=np.float32))


def split(found: Held) -> list[tuple[str, str, int, int, int]]:
    regions = with_evicted(REGIONS, found, PROMPT, "two?", lambda source, start, end: DOCUMENT[start:end])
    assert sum(r.tokens for r in regions) == sum(r.tokens for r in REGIONS)
    return [(r.kind, r.fate, r.tokens, r.start, r.end) for r in regions]


def test_tokens_that_all_heads_dropped_are_cut_out_exactly() -> None:
    """`` two ttt`` are characters 7 to 15 of the document; what is left of the passage reaches from its first token to its last."""
    assert split(held(two=0.0, ttt=0.0)) == [
        ("system", "kept", 2, 0, 0),
        ("passage", "kept", 2, 4, 20),
        ("passage", "evicted", 2, 7, 15),
        ("passage", "left_out", 9, 0, 30),
        ("question", "kept", 1, 0, 0),
        ("other", "kept", 4, 0, 0),
    ]


def test_a_token_that_half_of_the_heads_hold_counts_half() -> None:
    """Shares 1, 1/2, 1/2 and 0 are 2 of 4 tokens; something was lost from `` two`` (7) on, something is left up to `` ttt`` (15)."""
    assert split(held(two=0.5, ttt=0.5, four=0.0))[1:3] == [("passage", "kept", 2, 4, 15), ("passage", "evicted", 2, 7, 20)]


def test_the_question_is_its_last_place_and_not_the_passage() -> None:
    found = split(held(question=0.0))
    assert ("question", "evicted", 1, 0, 0) in found
    assert ("passage", "kept", 4, 4, 20) in found


def test_what_is_found_nowhere_shares_the_fate_of_the_rest() -> None:
    """Two of the prompt's eleven tokens are gone, and no region here is found in it: so are 2 of 11 and 1 of 4 (0.73) of its tokens."""
    regions = (Region(kind="passage", tokens=11, fate="kept", source="c.txt", start=0, end=9), REGIONS[-1])
    found = with_evicted(regions, held(s=0.0, u=0.0), PROMPT, "?", lambda *place: "not in it")
    assert [(r.kind, r.fate, r.tokens) for r in found] == [
        ("passage", "kept", 9), ("passage", "evicted", 2), ("other", "kept", 3), ("other", "evicted", 1)
    ]  # fmt: skip


def test_a_run_with_a_model_that_drops_says_so(scripted, monkeypatch) -> None:
    """Through `bay.ask`: the region of the step carries the fate; without an inside half nothing changes."""
    model = scripted(["Blue. [1]", "Blue. [1]"])
    documents = [bay.Document("The door is blue. The roof is red.", "house.txt")]
    plain = bay.ask("What colour is the door?", documents, recipe="stuff", model=model)
    assert {r.fate for r in plain.trace.steps[-1].regions} == {"kept"}

    def half(self):
        text = "\n".join(m.content for m in PROMPT_SEEN[-1])
        places = np.array([[i, i + 1] for i in range(len(text))])
        share = np.ones(len(text), dtype=np.float32)
        at = text.index("The roof is red.")
        share[at : at + 16] = 0.0
        return Held(text, places, share)

    PROMPT_SEEN: list = []
    generate = type(model).generate
    monkeypatch.setattr(type(model), "generate", lambda self, prompt, *rest: PROMPT_SEEN.append(prompt) or generate(self, prompt, *rest))
    monkeypatch.setattr(type(model), "held", half)
    found = bay.ask("What colour is the door?", documents, recipe="stuff", model=model)
    evicted = [r for r in found.trace.steps[-1].regions if r.fate == "evicted"]
    assert [(r.source, r.start, r.end) for r in evicted] == [("house.txt", 18, 34)]
    assert sum(r.tokens for r in found.trace.steps[-1].regions) == sum(r.tokens for r in plain.trace.steps[-1].regions)
