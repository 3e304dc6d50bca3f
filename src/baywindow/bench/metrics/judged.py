"""Scores that are a judge's verdicts. Gold answers are what the judge compares with; the first is enough unless a rubric takes all."""

from __future__ import annotations

from baywindow.bench.base import Turn, metric
from baywindow.bench.metrics._sentences import sentences
from baywindow.bench.referees import refereed, the_judge


@metric
@refereed("judge")
def judged(reply: str, turn: Turn) -> float:
    """The verdict by the rubric in ``metadata["rubric"]`` (``same`` if none is named), for rubrics of question, answer and reply."""
    rubric = str(turn.metadata.get("rubric", "same"))
    return the_judge().grade(rubric, question=asked(turn), answer="\n".join(turn.gold), reply=reply)


@metric
@refereed("judge")
def judged_answer(reply: str, turn: Turn) -> float:
    """HELMET's score of long answers: fluent (0 or 1) times correctness (0 to 3), as a share of 3."""
    judge = the_judge()
    if not judge.grade("fluent", reply=reply):
        return 0.0
    return judge.grade("correctness", question=asked(turn), answer="\n".join(turn.gold), reply=reply)


@metric
@refereed("judge")
def judged_summary(reply: str, turn: Turn) -> float:
    """HELMET's score of summaries: fluent times F1 of key points covered and sentences supported.

    Key points are ``metadata["points"]``, or the reference's sentences where the set has none. Each point and each sentence is one
    question; the published prompt asks for a count of all at once, which a small judge gets wrong.
    """
    judge = the_judge()
    if not turn.gold or not judge.grade("fluent", reply=reply):
        return 0.0
    points = list(turn.metadata.get("points", ())) or sentences(turn.gold[0])
    said = sentences(reply)
    recall = sum(judge.grade("point", point=p, text=reply) >= 0.5 for p in points) / len(points) if points else 0.0
    precision = sum(judge.grade("point", point=s, text=turn.gold[0]) >= 0.5 for s in said) / len(said) if said else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@metric
@refereed("judge")
def judged_quality(reply: str, turn: Turn) -> float:
    """LooGLE's score of a summary: 0 to 100 against the reference, as a share."""
    return the_judge().grade("quality", answer="\n".join(turn.gold), reply=reply)


def asked(turn: Turn) -> str:
    """The bare question, without the instructions around it."""
    return str(turn.metadata.get("question") or turn.question)
