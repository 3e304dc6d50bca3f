"""LongBench's sets: how each is asked, in our words, its output length and its score, from the published configuration."""

from __future__ import annotations

from dataclasses import replace

from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Source, Subset

WHERE = "unpack the set's data.zip and give the folder; a task is the file NAME.jsonl"

_ARTICLE = (
    'Answer briefly, with a phrase or one sentence. Reply "unanswerable" if the article does not tell, and to a question of yes or no '
    "with yes, no or unanswerable. Explain nothing."
)
_PASSAGES = "Use the passages to answer the question. Reply with the answer alone."
_SHORT = "Reply to the question about the story in as few words as you can, best a single phrase. Explain nothing."
_COUNT = "Some of the paragraphs from Wikipedia here occur more than once. Read them with care and count the different ones."
_LABEL = "Name the type of the last question, as it is done for the questions before it."
_REPORT = "Summarise the report of a government agency on one page."
_NEWS = "Summarise all of the news on one page."
_MEETING = "Answer the query from the transcript of the meeting, in one sentence or more."
_WHICH = "One of the 30 paragraphs from Wikipedia is the source of the abstract. Find out which one it is."

# Sets that exist in LongBench-E too, cut to even lengths.
_EVEN = (
    "qasper multifieldqa_en hotpotqa 2wikimqa gov_report multi_news trec triviaqa samsum passage_count passage_retrieval_en lcc repobench-p"
)


def _subset(name: str, summary: str, scorer: str, tokens: int, instruction: str, ask: str, prefix: str = "", **other: object) -> Subset:
    made = Subset(
        suite="longbench",
        name=name,
        summary=summary,
        scorer=scorer,
        max_new_tokens=tokens,
        instruction=instruction,
        ask=ask,
        answer_prefix=prefix,
        source=_source(name),
    )
    return replace(made, **other)  # type: ignore[arg-type]  # fields by name


def _source(name: str) -> Source:
    return Source(names=(f"{name}.jsonl",), hub=Hub(repo="THUDM/LongBench", file="data.zip", member=f"data/{name}.jsonl"), where=WHERE)


def _passages(name: str, summary: str) -> Subset:
    return _subset(name, summary, "token_f1", 32, f"{_PASSAGES}\n\nThe passages:", f"{_PASSAGES}\n\nQuestion: {{question}}", "Answer:")


_QUESTIONS = (
    _subset(
        "narrativeqa",
        "questions on a novel or film script",
        "token_f1",
        128,
        f"{_SHORT}\n\nStory:",
        f"{_SHORT}\n\nQuestion: {{question}}",
        "Answer:",
    ),
    _subset(
        "qasper",
        "questions on a scientific article",
        "token_f1",
        128,
        f"{_ARTICLE}\n\nArticle:",
        f"{_ARTICLE}\n\nQuestion: {{question}}",
        "Answer:",
    ),
    _subset(
        "multifieldqa_en",
        "questions on texts of many fields",
        "token_f1",
        64,
        "Read the text and answer briefly.",
        "Answer the question about the text above. Reply with the answer alone.\n\nQuestion: {question}",
        "Answer:",
    ),
    _subset(
        "multifieldqa_zh",
        "questions on Chinese texts of many fields",
        "token_f1_zh",
        64,
        "读下面的文字，用中文简短作答。",
        "根据上文回答问题，只写答案。\n\n问题：{question}",
        "回答：",
    ),
    _passages("hotpotqa", "questions that join two Wikipedia passages"),
    _passages("2wikimqa", "questions that join up to five Wikipedia passages"),
    _passages("musique", "questions that join up to four Wikipedia passages"),
    _subset(
        "dureader",
        "Chinese search questions over several pages",
        "rouge_l_zh",
        128,
        "请根据文章回答问题。\n\n文章：",
        "请根据上面的文章作答。\n\n问题：{question}",
        "回答：",
    ),
)

_SUMMARIES = (
    _subset("gov_report", "summary of a government report", "rouge_l", 512, f"{_REPORT}\n\nReport:", _REPORT, "Summary:"),
    _subset(
        "qmsum",
        "answer to a query about a meeting",
        "rouge_l",
        512,
        f"{_MEETING}\n\nTranscript:",
        f"{_MEETING}\n\nQuery: {{question}}",
        "Answer:",
    ),
    _subset("multi_news", "summary of several news reports", "rouge_l", 512, f"{_NEWS}\n\nNews:", _NEWS, "Summary:"),
    _subset(
        "vcsum",
        "summary of a Chinese meeting",
        "rouge_l_zh",
        512,
        "读会议记录，写出会议内容的总结。\n会议记录：",
        "请总结上面的会议。",
        "会议总结：",
    ),
)

_EXAMPLES = (
    _subset("trec", "type of a question, many examples given", "class_share_line", 64, _LABEL, "{question}", chat=False, stop=("\n",)),
    _subset(
        "triviaqa",
        "trivia on a passage, some examples given",
        "longbench_f1_line",
        32,
        "Use the passage to answer its question. Reply with the answer alone, as in the examples.",
        "{question}",
        chat=False,
        stop=("\n",),
    ),
    _subset(
        "samsum",
        "summary of a chat, many examples given",
        "longbench_rouge_line",
        128,
        "Summarise the dialogue in a few short sentences, as in the examples.",
        "{question}",
        chat=False,
        stop=("\n",),
    ),
    _subset(
        "lsht",
        "class of a Chinese news text, examples given",
        "class_share_line",
        64,
        "参照例子，判断最后一条新闻的类别。",
        "{question}",
        chat=False,
        stop=("\n",),
    ),
)

_SYNTHETIC = (
    _subset(
        "passage_count",
        "how many different paragraphs are there",
        "number_share",
        32,
        _COUNT,
        "How many different paragraphs are there? Reply with the number alone, such as 7.",
        "The number is: ",
    ),
    _subset(
        "passage_retrieval_en",
        "which of 30 paragraphs an abstract is of",
        "number_share",
        32,
        _WHICH,
        'This is the abstract.\n\n{question}\n\nGive the number of its paragraph in the form "Paragraph 7".',
        "It is: ",
    ),
    _subset(
        "passage_retrieval_zh",
        "which of several Chinese paragraphs an abstract is of",
        "number_share",
        32,
        "下面有若干段落和其中一段的摘要，请找出摘要属于哪一段。",
        "摘要如下。\n\n{question}\n\n请写出段落编号，格式如“段落7”。",
        "答案：",
    ),
)

_CODE = (
    _subset("lcc", "the next line of a code file", "code_similarity", 64, "Continue the code.", "Next line of code:", chat=False),
    _subset(
        "repobench-p",
        "the next line, with files of the repository",
        "code_similarity",
        64,
        "Continue the code.",
        "{question}Next line of code:",
        chat=False,
    ),
)

_ALL = (*_QUESTIONS, *_SUMMARIES, *_EXAMPLES, *_SYNTHETIC, *_CODE)
_E = tuple(
    replace(s, name=f"{s.name}_e", summary=f"{s.summary} (even lengths)", source=_source(f"{s.name}_e"))
    for s in _ALL
    if s.name in _EVEN.split()
)
SUBSETS = (*_ALL, *_E)
