"""LV-Eval: eleven question sets, the same questions at 16k, 32k, 64k, 128k and 256k words (Chinese: characters), with distractors mixed in.

Paper: Yuan et al., 2024, LV-Eval: A Balanced Long-Context Benchmark with 5 Length Levels Up to 256K, arXiv 2402.05136; its code was read.
A record has ``input``, ``context``, ``answers``, ``answer_keywords``, ``confusing_facts``, ``length``. Some sets hold facts made to confuse
and have keywords replaced, so that memory of the real text does not help. The score counts words only where the answer's keywords are said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from baywindow.bench.base import Sample, Suite
from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Source, Subset, documents_of, loaded

WHERE = "unpack the set's zip files and give the folder; a task is the file SET_LENGTH.jsonl"
LEVELS = ("16k", "32k", "64k", "128k", "256k")

_SOME = "Only some of the passages have to do with the question. Reply with the answer alone, without explanation or evidence."
_ONE = "Only one of the passages has to do with the question. Reply with the answer alone, without explanation or evidence."
_ONE_ZH = "问题和答案只与其中一篇文章有关。"
_ONLY_ZH = "直接写出答案，不要解释，也不要写证据。"


def _english(rule: str) -> tuple[str, str, str]:
    return f"{rule}\n\nArticle:", f"Answer the question from the passages above. {rule}\n\nQuestion: {{question}}", "Answer:"


def _chinese(rule: str) -> tuple[str, str, str]:
    return f"请根据文章回答问题。{rule}\n\n文章：", f"请根据上面的文章回答问题。{rule}\n\n问题：{{question}}", "回答："


# name, what it is, scorer, new tokens, (before the passages, after them, how the answer begins)
_SETS = (
    ("hotpotwikiqa_mixup", "questions that join two passages", "keyword_f1", 64, _english(_SOME)),
    ("loogle_SD_mixup", "questions on one place of one passage", "keyword_f1", 64, _english(_ONE)),
    ("loogle_CR_mixup", "questions that need comprehension and reasoning", "keyword_f1", 64, _english(_ONE)),
    ("loogle_MIR_mixup", "questions on several places of one passage", "keyword_f1", 64, _english(_ONE)),
    ("multifieldqa_en_mixup", "questions on texts of many fields", "keyword_f1", 64, _english(_ONE)),
    ("multifieldqa_zh_mixup", "questions on Chinese texts of many fields", "keyword_f1_zh", 64, _chinese(_ONE_ZH + _ONLY_ZH)),
    ("factrecall_en", "one fact and a confusing one in a long text", "token_f1", 16, _english("Read it with care.")),
    ("factrecall_zh", "one fact and a confusing one in a long Chinese text", "token_f1_zh", 16, _chinese("")),
    ("cmrc_mixup", "questions on Chinese Wikipedia", "keyword_f1_zh", 64, _chinese(_ONE_ZH)),
    ("lic_mixup", "Chinese search questions", "keyword_f1_zh", 64, _chinese(_ONE_ZH)),
    ("dureader_mixup", "Chinese search questions with long answers", "rouge_l_zh_content", 64, _chinese(_ONE_ZH)),
)


def load(subset: Subset, path: Path | None) -> Iterator[Sample]:
    for number, row in enumerate(subset.source.rows(path)):
        confusing = row.texts("confusing_facts")
        yield subset.sample(
            number,
            documents_of(row.text("context"), f"{subset.task}/{number}"),
            row.text("input"),
            row.texts("answers")[:1],  # the published scorer takes the first and stops
            keywords=" ".join(row.texts("answer_keywords")),
            confusing=[fact for fact in confusing if fact],
            words=int(row.get("length") or 0),
            language=str(row.get("language") or ""),
        )


def _subset(level: str, name: str, summary: str, scorer: str, tokens: int, frame: tuple[str, str, str]) -> Subset:
    file = f"{name}_{level}.jsonl"
    return Subset(
        suite="lv_eval",
        name=f"{name}_{level}",
        summary=f"{summary}, {level}",
        scorer=scorer,
        max_new_tokens=tokens,
        instruction=frame[0],
        ask=frame[1],
        answer_prefix=frame[2],
        source=Source(names=(file,), hub=Hub(repo="Infinigence/LVEval", file=f"{name}.zip", member=f"{name}/{file}"), where=WHERE),
    )


SUITE = Suite(
    name="lv_eval",
    summary="11 English and Chinese question sets at five lengths, with distractors, confusing facts and keyword-gated scores",
    paper="arXiv 2402.05136",
    year=2024,
    claim="With confusing facts and replaced keywords a model's score falls more with length than on the untouched text.",
    departures=(
        "prompts keep the published structure (task, article, task again, question, answer begun) in our own words",
        "dureader: ROUGE-L by rouge-score over words, where the published code uses the library rouge",
        "what to cut of an over-long prompt is left to the runner (metadata['cut']); the published code drops the middle of its tokens",
    ),
    tasks=tuple(loaded(_subset(level, *row), load) for row in _SETS for level in LEVELS),
)
