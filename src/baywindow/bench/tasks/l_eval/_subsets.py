"""L-Eval's sets: how each is asked, in our words. All allow 512 new tokens, as published."""

from __future__ import annotations

from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Source, Subset

WHERE = "clone the set and give the folder LEval-data; a task is the file NAME.jsonl"

_EXAM = (
    "A long document and a question about it follow. One option is right: reply with its letter alone (such as B). "
    "To a question without options, reply with a short and exact answer."
)
_MANY = "A long document and a question about it follow. One option or several are right: reply with their letters alone (such as B or AC)."
_OPEN = "A long document follows, and after it an instruction: to answer a question from it, to summarise it, or to write a part of it."
_DIRECT = "Question: {question}\nReply with the answer and nothing else."

# name, what it is, scorer, what stands before the document, how the question is put, how the answer begins
_CLOSED = (
    ("coursera", "exam on a lecture, several options may be right", "l_eval_letters", _MANY, _DIRECT, "Answer: "),
    ("quality", "multiple choice on a story or an article", "l_eval_letter", _EXAM, _DIRECT, "Answer: "),
    ("tpo", "multiple choice on an English lecture", "l_eval_letter", _EXAM, _DIRECT, "Answer: "),
    (
        "gsm100",
        "grade-school sums after 16 worked ones",
        "l_eval_number",
        "Questions with worked answers follow. Answer the last question in the same way and end with: The answer is NUMBER.",
        "{question}",
        "",
    ),
    (
        "codeU",
        "what a call into a code base prints",
        "l_eval_code",
        "A code base of many functions with comments follows, and after it a question about a call of some of them. Read with care.",
        "{question}",
        "",
    ),
    (
        "topic_retrieval_longchat",
        "the first, second or third topic of a long chat",
        "l_eval_topic",
        "You are the ASSISTANT of this record, I am the USER. Each topic begins with the USER naming it. Remember the topics in order.",
        "{question}",
        "Answer: ",
    ),
    (
        "sci_fi",
        "true in the story, and true in the world",
        "l_eval_truth",
        "A science fiction story follows, and after it a statement. Reply True or False by what the story says, not by what you know.",
        _DIRECT,
        "Answer: ",
    ),
)
_QA = (
    ("financial_qa", "questions on earnings calls"),
    ("legal_contract_qa", "questions on contracts"),
    ("multidoc_qa", "questions on several documents"),
    ("narrative_qa", "questions on a story"),
    ("natural_question", "search questions on a Wikipedia page"),
    ("scientific_qa", "questions on a paper"),
)
_SUMMARIES = (
    ("gov_report_summ", "summary of a government report"),
    ("meeting_summ", "summary of a meeting, by query"),
    ("news_summ", "summary of news"),
    ("paper_assistant", "a section of a paper, from the rest of it"),
    ("patent_summ", "summary of a patent"),
    ("review_summ", "summary of reviews"),
    ("tv_show_summ", "summary of an episode"),
)


def _subset(name: str, summary: str, scorer: str, instruction: str, ask: str, prefix: str) -> Subset:
    closed = scorer.startswith("l_eval")
    folder = "Exam" if closed else "Generation"
    return Subset(
        suite="l_eval",
        name=name,
        summary=summary,
        scorer=scorer,
        max_new_tokens=512,
        instruction=instruction,
        ask=ask,
        answer_prefix=prefix,
        also=() if closed else ("token_f1", "rouge_l", "rouge_mean"),
        cut="start" if name == "codeU" else "end",
        source=Source(names=(f"{name}.jsonl",), hub=Hub(repo="L4NLP/LEval", file=f"LEval/{folder}/{name}.jsonl"), where=WHERE),
    )


SUBSETS = (
    *(_subset(*row) for row in _CLOSED),
    *(_subset(name, summary, "token_f1", _OPEN, "Instruction: {question}", "Output: ") for name, summary in _QA),
    *(_subset(name, summary, "rouge_l", _OPEN, "Instruction: {question}", "Output: ") for name, summary in _SUMMARIES),
)
