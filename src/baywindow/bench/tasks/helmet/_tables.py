"""HELMET's tasks at its five lengths: files, numbers of documents or examples, context tokens, output lengths, from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from baywindow.bench.tasks._loading import Source, Subset

LEVELS = {"8k": 8192, "16k": 16384, "32k": 32768, "64k": 65536, "128k": 131072}
WHERE = "unpack HELMET's data archive and give the folder; each task tells the file it reads"

_RAG = "Answer the question from the documents, briefly. Write it in this form:\nAnswer: [answer]"
_RULER = {
    "niah_mk_2": ("niah_multikey_2", 50),
    "niah_mk_3": ("niah_multikey_3", 100),
    "niah_mv": ("niah_multivalue", 50),
}
_KILT = {
    "nq": ("nq-dev-multikilt_1000_k{}_dep6.jsonl", "nq-train-multikilt_1000_k3_dep6.jsonl", "search questions"),
    "triviaqa": ("triviaqa-dev-multikilt_1000_k{}_dep6.jsonl", "triviaqa-train-multikilt_1000_k3_dep6.jsonl", "trivia"),
    "hotpotqa": (
        "hotpotqa-dev-multikilt_1000_k{}_dep3.jsonl",
        "hotpotqa-train-multikilt_1000_k3_dep3.jsonl",
        "questions that join two pages",
    ),
    "popqa": ("popqa_test_1000_k{}_dep6.jsonl", "popqa_test_1000_k3_dep6.jsonl", "questions on little-known things"),
}
_SHOTS = {
    "trec_coarse": (400, 800, 1600, 3300, 6600),
    "trec_fine": (400, 800, 1600, 3200, 6400),
    "banking77": (360, 720, 1450, 2900, 5900),
    "clinic150": (440, 880, 1750, 3525, 7050),
    "nlu": (510, 1020, 2040, 4080, 8296),
}
_BOOK_TOKENS = (7982, 16174, 32558, 65326, 130862)
_STORY = "A story and a question follow. Answer as briefly as you can, best in a single phrase."
_OPTIONS = "A story and a question with options follow. One option is right: reply with its letter alone (A, B, C or D)."
_PLOT = "Summarise the book in 1000 to 1200 words. Tell its plot and its people; leave out themes, background and opinion."
_CASE = "Summarise the lawsuit from its documents in one paragraph of 200 to 250 words: background, parties, outcome."


@dataclass(frozen=True, kw_only=True)
class Part(Subset):
    """A subset at one length. ``kind`` says how its records are read; ``count`` is documents or examples, ``context_tokens`` where the
    text is to be cut at its end; ``demos`` names the file that examples come from."""

    kind: str
    level: str
    count: int = 0
    context_tokens: int = 0
    demos: str = ""
    shots: int = 2


def _part(kind: str, name: str, level: str, file: str, summary: str, scorer: str, tokens: int, **other: object) -> Part:
    return Part(
        suite="helmet",
        name=f"{name}_{level}",
        summary=f"{summary}, {level}",
        scorer=scorer,
        max_new_tokens=tokens,
        kind=kind,
        level=level,
        source=Source(names=(file,), where=f"{WHERE}: {file}"),
        cut="end",
        **other,  # type: ignore[arg-type]  # fields by name
    )


def _recall(i: int, level: str) -> list[Part]:
    pairs = (105, 220, 440, 900, 1800)[i]
    kv = {
        "instruction": "",
        "ask": "Give the value of one key of the JSON object above.\n\n{question}",
        "answer_prefix": "Corresponding value:",
    }
    found = [
        _part(
            "json_kv",
            "json_kv",
            level,
            f"test_k{pairs}_dep6.jsonl",
            "a value by its key",
            "helmet_substring",
            100,
            count=pairs,
            chat=False,
            **kv,
        )
    ]
    for name, (folder, tokens) in _RULER.items():
        file = f"{folder}/validation_{LEVELS[level]}.jsonl"
        found.append(_part("ruler", name, level, file, "needles in needles", "includes_all", tokens, shots=0, chat=False))
    return found


def _rag(i: int, level: str) -> list[Part]:
    count = (50, 105, 220, 440, 1000)[i]
    return [
        _part(
            "kilt",
            name,
            level,
            file.format(count),
            f"{what}, gold among {count} passages",
            "helmet_substring",
            20,
            count=count,
            demos=demos,
            instruction=_RAG,
            ask="Question: {question}",
            answer_prefix="Answer:",
            chat=False,
            stop=("\n",),
        )
        for name, (file, demos, what) in _KILT.items()
    ]


def _cite(i: int, level: str) -> list[Part]:
    count = (30, 75, 165, 345, 700)[i]
    also = ("citation_recall", "citation_precision", "citation_f1")
    ask = {"ask": "Question: {question}", "answer_prefix": "Answer:", "count": count, "also": also}
    sets = (("alce_asqa", "asqa", "alce_str_em"), ("alce_qampari", "qampari", "alce_list_recall5"))
    return [
        _part(
            "cite", name, level, f"{stem}_eval_gtr_top2000.json", "answers with citations", scorer, 300, demos=f"{stem}_revised.json", **ask
        )
        for name, stem, scorer in sets
    ]


def _others(i: int, level: str) -> list[Part]:
    count = (50, 130, 285, 600, 1000)[i]
    rank = {
        "instruction": "Rank the documents by how well they answer the query, all of them, the best first. Write their ids in this form:\n"
        "Ranking: ID3 > ID1 > ID2",
        "ask": "Query: {question}",
        "answer_prefix": "Ranking:",
        "demos": "test_reranking_data_k10_dep3.jsonl",
    }
    rerank = _part(
        "rerank", "msmarco", level, f"test_reranking_data_k{count}_dep3.jsonl", f"{count} passages to rank", "helmet_ndcg10", 200,
        count=count, chat=False, stop=("\n",), **rank,
    )  # fmt: skip
    label = {
        "instruction": 'Label the last text as the texts before it are labelled. Write "label: " and the label, nothing else.',
        "ask": "{question}",
    }
    icl = [
        _part(
            "icl", name, level, f"{name}/test.jsonl", f"label by {shots[i]} examples", "helmet_label", 20,
            count=shots[i], shots=0, answer_prefix="label:", demos=f"{name}/train.jsonl", chat=False, stop=("\n",), **label,
        )
        for name, shots in _SHOTS.items()
    ]  # fmt: skip
    return [rerank, *icl]


def _long(i: int, level: str) -> list[Part]:
    question = {"ask": "Question: {question}", "answer_prefix": "Answer:"}
    tokens = {
        "narrativeqa": (7892, 16084, 32468, 65236, 130772)[i],
        "sum": (6792, 14984, 31368, 64136, 129672)[i],
        "lexsum": (7492, 15684, 32068, 64836, 130372)[i],
    }
    judged = ("token_f1", "rouge_l_stem")
    summary = {"ask": "Now write the summary.", "answer_prefix": "Summary:", "also": ("rouge_l_stem", "rouge_lsum")}
    return [
        _part("narrativeqa", "narrativeqa", level, "narrativeqa.jsonl", "questions on a story", "judged_answer", 100,
              instruction=_STORY, context_tokens=tokens["narrativeqa"], also=judged, **question),
        _part("book", "infbench_qa", level, "longbook_qa_eng.jsonl", "questions on a novel", "helmet_rouge", 10,
              instruction=_STORY, context_tokens=_BOOK_TOKENS[i], **question),
        _part("book", "infbench_choice", level, "longbook_choice_eng.jsonl", "multiple choice on a novel", "helmet_choice", 10,
              instruction=_OPTIONS, context_tokens=_BOOK_TOKENS[i], **question),
        _part("book", "infbench_sum", level, "longbook_sum_eng.jsonl", "summary of a novel", "judged_summary", 1200,
              instruction=_PLOT, context_tokens=tokens["sum"], **summary),
        _part("lexsum", "multi_lexsum", level, "multi_lexsum.jsonl", "summary of a lawsuit", "judged_summary", 400,
              instruction=_CASE, context_tokens=tokens["lexsum"], **summary),
    ]  # fmt: skip


PARTS = tuple(part for i, level in enumerate(LEVELS) for category in (_recall, _rag, _cite, _others, _long) for part in category(i, level))

# The paper's score: the mean of seven categories, each the mean of its tasks.
CATEGORIES = {
    "recall": ("json_kv", *_RULER),
    "passages": tuple(_KILT),
    "cite": ("alce_asqa", "alce_qampari"),
    "rerank": ("msmarco",),
    "icl": tuple(_SHOTS),
    "longqa": ("narrativeqa", "infbench_qa", "infbench_choice"),
    "summ": ("infbench_sum", "multi_lexsum"),
}
