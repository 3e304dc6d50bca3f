"""ALCE's scores of what an answer with citations says (what it cites is scored in `citations`).

Only the reply's first line counts, without its citations, as published.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._sentences import without_citations
from baywindow.bench.metrics.match import normalised
from baywindow.bench.referees import refereed, the_entailment


@metric
def alce_str_em(reply: str, turn: Turn) -> float:
    """Share of the short questions in ``metadata["aliases"]`` (one list of accepted answers each) that the reply answers (ASQA)."""
    said, wanted = normalised(_said(reply)), _aliases(turn)
    return sum(any(normalised(a) in said for a in accepted) for accepted in wanted) / len(wanted) if wanted else 0.0


@metric
def alce_list_recall5(reply: str, turn: Turn) -> float:
    """Share of the accepted answers named in a list parted by commas; five found are enough (QAMPARI)."""
    said, wanted = _items(reply), _aliases(turn)
    found = sum(any(normalised(a) in said for a in accepted) for accepted in wanted)
    return min(5, found) / min(5, len(wanted)) if wanted else 0.0


@metric
def alce_list_precision(reply: str, turn: Turn) -> float:
    """Share of the list's items that are accepted answers (QAMPARI)."""
    said = _items(reply)
    right = {normalised(a) for accepted in _aliases(turn) for a in accepted}
    return sum(item in right for item in said) / len(said) if said else 0.0


@metric
@refereed("entailment")
def alce_claims(reply: str, turn: Turn) -> float:
    """Share of the claims in ``metadata["claims"]`` that the reply entails (ELI5)."""
    claims = list(turn.metadata.get("claims", ()))
    said = _said(reply)
    return sum(the_entailment().entails(said, claim) for claim in claims) / len(claims) if claims else 0.0


def _said(reply: str) -> str:
    return without_citations(reply.strip().split("\n")[0])


def _items(reply: str) -> list[str]:
    return [item for piece in _said(reply).rstrip(" .,").split(",") if (item := normalised(piece))]


def _aliases(turn: Turn) -> list[Sequence[str]]:
    """Accepted answers, one list for each thing asked; each gold string is one of its own where the sample gives no aliases."""
    return [list(accepted) for accepted in turn.metadata.get("aliases") or [[gold] for gold in turn.gold]]
