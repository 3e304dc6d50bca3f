"""RULER's thirteen tasks: the official parameters and prompts, gold that the text really supports, and the official scores."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.ruler import SUITE, THRESHOLD, effective_length
from baywindow.bench.tasks.ruler._frequency import numbered
from baywindow.bench.tasks.ruler._words import a_word
from baywindow.errors import ConfigError, SourceError

NEEDLE = re.compile(r"One of the special magic (\w+) for (\S+) is: (\S+)\.")


def sample(task, tokens=1024, seed=0, depth=None, **options):
    counter = TokenCounter(lambda text: len(re.findall(r"\w{1,5}|[^\w\s]|\n", text)), "pieces")
    order = Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options)
    return find.tasks(f"ruler.{task}")[0].sample(order)


def test_the_thirteen_official_tasks_with_their_reply_lengths():
    lengths = {t.name.removeprefix("ruler."): t.max_new_tokens for t in SUITE.tasks}
    needles = ["single_1", "single_2", "single_3", "multikey_1", "multikey_2", "multikey_3", "multivalue", "multiquery"]
    assert lengths == {**{f"niah_{n}": 128 for n in needles}, "vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}


@pytest.mark.parametrize(
    ("task", "keys", "needles", "asked", "key", "value"),
    [
        ("niah_single_1", 1, 1, 1, r"[\w-]+", r"\d{7}"),
        ("niah_single_2", 1, 1, 1, r"[\w-]+", r"\d{7}"),
        ("niah_single_3", 1, 1, 1, r"[\w-]+", r"[0-9a-f-]{36}"),
        ("niah_multikey_1", 4, 4, 1, r"[\w-]+", r"\d{7}"),
        ("niah_multivalue", 1, 4, 4, r"[\w-]+", r"\d{7}"),
        ("niah_multiquery", 4, 4, 4, r"[\w-]+", r"\d{7}"),
    ],
)
def test_needles_in_text(task, keys, needles, asked, key, value):
    made = sample(task)
    found = NEEDLE.findall(made.context)
    assert len(found) == needles
    assert len({k for _, k, _ in found}) == keys
    assert all(re.fullmatch(key, k) and re.fullmatch(value, v) for _, k, v in found)
    in_question = {k for _, k, _ in found if k in made.question}
    assert {v for _, k, v in found if k in in_question} == set(made.gold)
    assert len(made.gold) == asked


@pytest.mark.parametrize(("task", "value"), [("niah_multikey_2", r"\d{7}"), ("niah_multikey_3", r"[0-9a-f-]{36}")])
def test_nothing_but_needles(task, value):
    made = sample(task, 2048)
    lines = made.context.split("\n")
    found = [NEEDLE.fullmatch(line) for line in lines]
    assert all(found)
    assert len(lines) > 15
    asked = [m[3] for m in found if m and m[2] in made.question]
    assert tuple(asked) == made.gold
    assert re.fullmatch(value, made.gold[0])


def test_the_prompt_of_one_needle_is_singular_and_of_several_plural():
    one, four = sample("niah_single_1"), sample("niah_multivalue")
    key = NEEDLE.search(one.context)[2]
    assert one.instruction == (
        "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the number afterwards."
    )
    assert one.question == f"What is the special magic number for {key} mentioned in the provided text?"
    assert one.answer_prefix == f"The special magic number for {key} mentioned in the provided text is"
    assert four.instruction.startswith("Some special magic numbers are hidden within the following text.")
    assert four.answer_prefix.endswith("mentioned in the provided text are")


@pytest.mark.parametrize(("depth", "near"), [(0.0, 0.03), (0.5, 0.08), (1.0, 0.03)])
@pytest.mark.parametrize("task", ["niah_single_1", "niah_single_2", "niah_multikey_2", "niah_multikey_1"])
def test_depth_places_the_needle_asked_for(task, depth, near):
    made = sample(task, 4096, depth=depth)
    assert made.metadata["depth"] == depth
    # places are counted in sentences, as in the official code, and sentences differ in length
    assert abs(made.context.index(made.gold[0]) / len(made.context) - depth) < near


def test_variables_end_up_with_the_value_by_running_the_assignments():
    for seed in range(3):
        made = sample("vt", seed=seed)
        value = re.search(r"assigned the value (\d+)", made.question)[1]
        held: dict[str, str] = {}
        for name, variable, number in re.findall(r"VAR (\w+) = (?:VAR (\w+)|(\d+))", made.context):
            held[name] = held[variable] if variable else number
        assert {name for name, what in held.items() if what == value} == set(made.gold)
        assert len(made.gold) == 5
        assert "5 variables are assigned the value" in made.answer_prefix
        assert not set(made.gold) & set(re.findall(r"VAR (\w{3}) ", made.instruction))


@pytest.mark.parametrize(("tokens", "often", "seldom"), [(1024, 6, 1), (4096, 30, 3)])
def test_common_words_are_the_ten_most_common_by_counting(tokens, often, seldom):
    made = sample("cwe", tokens)
    counts = Counter(re.findall(r"\d+\. (.+?)(?= \d+\. |$)", made.context))
    assert {word for word, n in counts.items() if n == often} == set(made.gold)
    assert set(counts.values()) == {often, seldom}
    numbers = [int(n) for n in re.findall(r"(\d+)\. ", made.context)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_numbered_list_by_hand():
    words = [f"w{i}" for i in range(12)]
    text, common = numbered(words, 2, 1, random.Random(0))
    assert common == words[:10]
    assert sorted(re.findall(r"w\d+", text)) == sorted(words[:10] * 2 + words[10:])


def test_frequent_words_are_the_three_after_the_dots_by_counting():
    for seed in range(3):
        made = sample("fwe", seed=seed)
        ranked = Counter(made.context.split()).most_common(5)
        assert ranked[0][0] == "..."
        assert [word for word, _ in ranked[1:4]] == list(made.gold)
        assert ranked[3][1] > ranked[4][1]  # no tie about what is asked
        # the zeta law of exponent 2: the second comes a quarter as often as the first, the third a ninth
        assert ranked[1][1] == pytest.approx(ranked[0][1] / 4, abs=1)
        assert ranked[2][1] == pytest.approx(ranked[0][1] / 9, abs=1)


def test_invented_questions_are_answered_by_one_document_or_by_two():
    one, two = sample("qa_1"), sample("qa_2")
    assert sum(one.gold[0] in d.text for d in one.documents) == 1
    place = re.search(r"founder of the (.+) born", two.question)[1]
    founder = re.search(rf"The {place} was founded by (\w+ \w+) in", two.context)[1]
    assert re.search(rf"{founder} was born in the town of (\w+) in", two.context)[1] == two.gold[0]
    assert len(one.documents) > 5
    assert "invented" in one.metadata["data"]
    assert [d.text.splitlines()[0] for d in one.documents[:2]] == ["Document 1:", "Document 2:"]


SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"Paragraph {a}{p} tells that the {a} river of {p} is {a}{p}km long." + " More is told of it here." * 12,
                    "qas": [
                        {
                            "question": f"How long is the {a} river of {p}?",
                            "answers": [{"text": f"{a}{p}km"}, {"text": f"{a}{p}km"}, {"text": f"{a}{p}km long"}],
                            "is_impossible": False,
                        },
                        {"question": "Who knows?", "answers": [], "is_impossible": True},
                    ],
                }
                for p in "uvwxyz"
            ]
        }
        for a in "abcd"
    ]
}
HOTPOT = [
    {
        "question": f"Where was the maker of film {i} born?",
        "answer": f"Town{i}",
        "supporting_facts": [[f"Film {i}", 0], [f"Maker {i}", 0]],
        "context": [
            [f"Film {i}", [f"Film {i} was made by Maker {i}.", " It is long."]],
            *[[f"Other {i}{n}", [f"Other {i}{n} is something else." + " It has been told often." * 8]] for n in range(4)],
            [f"Maker {i}", [f"Maker {i} was born in Town{i}."]],
        ],
    }
    for i in range(12)
]


def test_squad_from_its_own_file(tmp_path):
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(SQUAD))
    made = sample("qa_1", seed=7, data=str(tmp_path))  # the eighth question: second article, second paragraph
    assert made.question.endswith("Question: How long is the b river of v?")
    assert made.gold == ("bvkm", "bvkm long")
    texts = [d.text for d in made.documents]
    gold = [t for t in texts if "the b river of v is" in t]
    assert len(gold) == 1
    assert gold[0].endswith("More is told of it here.")  # what holds the answer is never cut
    # the other five paragraphs of the article come before those of other articles
    assert sum("Paragraph b" in t for t in texts) == 6
    assert made.metadata["data"] == f"squad:{tmp_path.name}"


def test_squad_begins_again_when_the_data_runs_out(tmp_path):
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD))
    made = sample("qa_1", tokens=8192, data=str(tmp_path / "squad.json"))
    assert made.metadata["tokens"] > 8000
    assert sum("the a river of u is" in d.text for d in made.documents) == 1


def test_hotpot_keeps_both_supporting_paragraphs(tmp_path):
    (tmp_path / "hotpotqa.json").write_text(json.dumps(HOTPOT))
    made = sample("qa_2", seed=3, data=str(tmp_path))
    assert made.gold == ("Town3",)
    assert "Film 3\nFilm 3 was made by Maker 3. It is long." in made.context
    assert "Maker 3 was born in Town3." in made.context
    assert all(f"Other 3{n} is" in made.context for n in range(4))


def test_data_that_is_not_there_or_of_another_form_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no squad data"):
        sample("qa_1", data=str(tmp_path))
    (tmp_path / "squad.json").write_text("[1, 2]")
    with pytest.raises(SourceError, match="not squad data"):
        sample("qa_1", data=str(tmp_path))
    with pytest.raises(ConfigError, match="no option 'dater'"):
        sample("qa_1", dater=1)


# The official functions, stated again from reading them: a score of many predictions in per cent, to two places.
def string_match_all(predictions, references):
    shares = []
    for said, wanted in zip(predictions, references, strict=True):
        hits = [1.0 if w.lower() in said.lower() else 0.0 for w in wanted]
        shares.append(sum(hits) / len(wanted))
    return round(sum(shares) / len(predictions) * 100, 2)


def string_match_part(predictions, references):
    best = [max(1.0 if w.lower() in said.lower() else 0.0 for w in wanted) for said, wanted in zip(predictions, references, strict=True)]
    return round(sum(best) / len(predictions) * 100, 2)


@pytest.mark.parametrize(
    ("task", "official"), [("niah_multivalue", string_match_all), ("cwe", string_match_all), ("qa_1", string_match_part)]
)
def test_scores_agree_with_the_official_functions_to_the_digit(task, official):
    rng = random.Random(task)
    turns = [sample(task, seed=seed).asked[0] for seed in range(7)]
    replies = []
    for turn in turns:
        some = rng.sample(turn.gold, rng.randint(0, len(turn.gold)))
        replies.append(" and ".join(w.upper() if rng.random() < 0.5 else w for w in some) or "I do not know")
    ours = round(sum(find.score(reply, turn) for reply, turn in zip(replies, turns, strict=True)) / len(turns) * 100, 2)
    assert ours == official(replies, [list(turn.gold) for turn in turns])
    assert 0 < ours < 100


def test_effective_length_by_hand():
    scores = {4096: {"a": 1.0, "b": 0.9}, 8192: {"a": 0.9, "b": 0.7}, 16384: {"a": 0.86, "b": 0.86}, 32768: {"a": 0.856, "b": 0.856}}
    assert THRESHOLD == 0.856
    assert effective_length(scores) == 16384  # 8k misses the bar (0.8), 32k only reaches it
    assert effective_length({4096: {"a": 0.1}}) is None
    assert effective_length({}) is None
    assert effective_length(scores, threshold=0.9) == 4096


def test_words_are_pairs_of_the_word_list():
    words = [a_word(random.Random(seed)) for seed in range(20)]
    assert all("-" in word for word in words)
    assert len(set(words)) == 20
