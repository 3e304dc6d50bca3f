"""InfiniteBench's tasks: how each is asked, in our words, its output length and its score, from the published configuration."""

from __future__ import annotations

from baywindow.bench.tasks._hub import Hub
from baywindow.bench.tasks._loading import Source, Subset

WHERE = "give the folder of the set's files; a task is the file NAME.jsonl"

_HIDDEN = "One thing that matters is hidden in much that does not. Find it and keep it in mind: you will be asked about it."
_BOOK = "Read the book and answer the question."
_OPTIONS = "{question}\n\nOne option is right. Reply with its letter alone."

# name, what it is, scorer, new tokens, before the text, after it, how the answer begins
_TASKS = (
    ("passkey", "a five-digit key in noise", "inftybench_first_digits", 6, _HIDDEN, "{question}", "The pass key is"),
    ("number_string", "a long number in noise", "inftybench_first_digits", 12, _HIDDEN, "{question}", "The sequence of digits is"),
    (
        "kv_retrieval",
        "a value by its key in a JSON object",
        "inftybench_word",
        50,
        "Give the value of one key of this JSON object.",
        "{question}",
        "",
    ),
    ("longbook_sum_eng", "summary of a novel", "rouge_lsum", 1200, "Summarise the book.", "Summarise the book above.", "Summary:"),
    ("longbook_choice_eng", "multiple choice on a novel", "inftybench_option", 40, _BOOK, f"Question: {_OPTIONS}", "The letter is"),
    ("longbook_qa_eng", "questions on a novel", "token_f1", 40, f"{_BOOK} Be brief.", "Question: {question}", "Answer:"),
    ("longbook_qa_chn", "questions on a Chinese novel", "character_f1_zh", 40, "读这本书，然后回答问题。", "问题：{question}", "答案："),
    (
        "longdialogue_qa_eng",
        "which character's name was masked in a script",
        "inftybench_name",
        40,
        "In this script one character's name was replaced by $$MASK$$ in one place. Guess whose.",
        "Who is $$MASK$$? Reply with the name as it stands before a colon, and nothing else.",
        "The name is",
    ),
    ("math_find", "the largest, smallest or median of a list", "inftybench_number", 3, "", "{question}", ""),
    (
        "math_calc",
        "every value on the way through a long sum",
        "inftybench_steps",
        30000,
        "Give the values on the way through a sum. For 2 + 5 - 3 they are [2, 7, 4].\n\nExpression:",
        "Give the values of the expression above, from its first number on, as a list and nothing else.",
        "Values: [",
    ),
    ("code_run", "what a chain of functions returns", "inftybench_last_word", 5, "", "Compute {question}.", "It returns"),
    (
        "code_debug",
        "which function holds a planted error",
        "inftybench_option",
        5,
        "In exactly one function of this code an error was planted that makes it fail.",
        f"Which function is it?\n{_OPTIONS}",
        "The letter is",
    ),
)


def _subset(name: str, summary: str, scorer: str, *frame: int | str) -> Subset:
    tokens, instruction, ask, prefix = frame
    return Subset(
        suite="inftybench",
        name=name,
        summary=summary,
        scorer=scorer,
        max_new_tokens=int(tokens),
        instruction=str(instruction),
        ask=str(ask),
        answer_prefix=str(prefix),
        source=Source(names=(f"{name}.jsonl",), hub=Hub(repo="xinrongzhang2022/InfiniteBench", file=f"{name}.jsonl"), where=WHERE),
    )


SUBSETS = tuple(_subset(*row) for row in _TASKS)
