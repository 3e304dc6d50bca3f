"""What became of a prompt's regions inside the model, where a recipe dropped part of what was read.

Heads of different layers keep different tokens, so a token is seldom gone or there as a whole. A region's tokens are therefore split by
share: of 100 tokens of which the heads hold a quarter on average, 25 are kept and 75 evicted. The characters given with each part say
where: from the first to the last token that some head still holds, or that some head has lost. Where all heads drop the same tokens, as
with a window, these are the exact borders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baywindow.models.base import Held, Message
from baywindow.trace import Region

Span = tuple[int, int]


def with_evicted(
    regions: Sequence[Region], held: Held, prompt: Sequence[Message], question: str, excerpt: Callable[[str, int, int], str]
) -> tuple[Region, ...]:
    """``regions`` of ``prompt`` with an ``evicted`` part beside each kept one that lost something; token counts still add up.

    ``excerpt(source, start, end)`` gives a passage's text. What is found nowhere in the prompt shares the fate of the tokens that belong
    to no other region.
    """
    text = _plain(held.text)
    system = "\n\n".join(m.content for m in prompt if m.role == "system")
    wanted = {"system": lambda r: system, "question": lambda r: question, "passage": lambda r: excerpt(r.source, r.start, r.end)}
    taken: list[Span] = []
    spans: list[Span | None] = []
    for region in regions:
        said = wanted[region.kind](region) if region.kind in wanted and region.fate == "kept" else ""
        spans.append(_find(text, _plain(said), taken, last=region.kind == "question"))
    starts, ends = held.offsets[:, 0], held.offsets[:, 1]
    rest = np.ones(len(starts), dtype=bool)
    for start, end in taken:
        rest &= ~((starts < end) & (ends > start))
    found: list[Region] = []
    for region, span in zip(regions, spans, strict=True):
        inside = rest if span is None else (starts < span[1]) & (ends > span[0])
        found += _split(region, held, inside, span) if region.fate == "kept" else [region]
    return tuple(found)


def _split(region: Region, held: Held, inside: NDArray[np.bool_], span: Span | None) -> list[Region]:
    share = held.share[inside]
    if not len(share) or not region.tokens or share.min() == 1.0:
        return [region]
    kept = round(region.tokens * float(share.mean()))
    parts = [(replace(region, tokens=kept), share > 0), (replace(region, tokens=region.tokens - kept, fate="evicted"), share < 1)]
    placed = [_placed(part, held.offsets[inside][some], span) for part, some in parts if part.tokens and some.any()]
    return sorted(placed, key=lambda part: part.start)


def _placed(region: Region, offsets: NDArray[np.int64], span: Span | None) -> Region:
    """The region cut down to the characters from the first to the last of these tokens."""
    if region.source is None or span is None:
        return region
    start = region.start + max(0, int(offsets[0, 0]) - span[0])
    return replace(region, start=start, end=min(region.end, region.start + int(offsets[-1, 1]) - span[0]))


def _find(text: str, said: str, taken: list[Span], *, last: bool) -> Span | None:
    """Where ``said`` stands in ``text`` apart from what is ``taken``: its first place, or its last one."""
    said = said.strip() if last else said
    at = (text.rfind(said) if last else text.find(said)) if said else -1
    while at >= 0 and any(at < end and at + len(said) > start for start, end in taken):
        at = text.rfind(said, 0, at + len(said) - 1) if last else text.find(said, at + 1)
    if at < 0:
        return None
    taken.append((at, at + len(said)))
    return taken[-1]


def _plain(text: str) -> str:
    """Prompts defuse the fence's own bracket inside passages; the lengths stay the same."""
    return text.replace("<", "‹")
