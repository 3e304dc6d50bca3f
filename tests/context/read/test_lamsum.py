"""`lamsum`: representative passages by shuffled votes, level by level, word for word."""

from __future__ import annotations

import re

import pytest

from baywindow.context.read.lamsum import Lamsum, ballot, elected
from baywindow.context.reply import NOT_FOUND
from baywindow.context.run import Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError


def posts(n: int) -> str:
    return "\n".join(f"post {i} says {'GOOD ' if i % 10 == 3 else ''}something about the harbour" for i in range(n))


def shown(prompt) -> list[tuple[int, str]]:
    return [(int(n), text) for n, text in re.findall(r"<passage \[(\d+)\][^>]*>\n(.+)\n</passage>", prompt[-1].content)]


def picks_good(prompt) -> str:
    good = [n for n, text in shown(prompt) if "GOOD" in text]
    return " ".join(f"[{n}]" for n in good) or NOT_FOUND


def passage(i: int) -> Passage:
    return Passage(text=f"p{i}", source="s", start=i * 10, end=i * 10 + 2, line=i + 1)


A, B, C, D = (passage(i) for i in range(4))


def test_proportional_approval_by_hand():
    # Ballots AB, AB, AB, C. Committee {A,B}: 3·(1+1/2) = 4.5; {A,C}: 3 + 1 = 4; {B,C}: 4. So A and B win.
    assert elected([[A, B]] * 3 + [[C]], [A, B, C], 2, "proportional") == [A, B]
    # With AB, AB, C, C: {A,B} = 3; {A,C} = 2 + 2 = 4. The minority is represented, where plurality's tie takes A and B.
    assert elected([[A, B], [A, B], [C], [C]], [A, B, C], 2, "proportional") == [A, C]
    assert elected([[A, B], [A, B], [C], [C]], [A, B, C], 2, "plurality") == [A, B]


def test_borda_counts_ranks_and_plurality_does_not():
    # Chunk of 4: first place 4 points, second 3, third 2. B: 3+4 = 7; A: 4; C: 2+3 = 5; D: 4.
    ballots = [[A, B, C], [B, C], [D]]
    assert elected(ballots, [A, B, C, D], 2, "borda") == [B, C]
    assert elected([[A, B], [A, B], [C, B]], [A, B, C], 1, "plurality") == [B]


def test_nobody_wins_without_a_vote():
    assert elected([[], [B]], [A, B, C], 3, "proportional") == [B]
    assert elected([], [A, B], 1, "borda") == []


def test_a_ballot_is_read_from_numbers_or_from_the_words_of_a_passage(garden, scripted):
    run = Run("q", garden, scripted([]))
    chunk = list(garden.passages())
    for p in chunk:
        run.number(p)
    assert ballot(run, "[4] and [2, 1]", chunk) == [chunk[3], chunk[1], chunk[0]]
    assert ballot(run, "3, 99, 3", chunk) == [chunk[2]]
    assert ballot(run, "- The fence was painted in green by Ida", chunk) == [chunk[3]]
    assert ballot(run, "- Something about another planet altogether", chunk) == []
    assert ballot(run, NOT_FOUND, chunk) == []


def test_levels_go_up_until_k_remain_and_the_summary_is_word_for_word(corpus, scripted):
    book = corpus(book=posts(100))
    model = scripted(picks_good, context_length=1000)
    run = Run("What is good?", book, model)
    text = Lamsum(k=3, chunk_passages=20, shuffles=1).read(run, None)
    lines = text.splitlines()
    assert len(lines) == 3
    originals = {p.text for p in book.passages()}
    for line in lines:
        said, n = re.fullmatch(r"- (.+) \[(\d+)\]", line).groups()
        assert said in originals
        assert "GOOD" in said
        assert run.numbered[int(n)].text == said
    assert {s.name for s in run.steps} == {"select, level 1", "select, level 2"}


def test_every_shuffle_shows_the_same_passages_in_another_order(corpus, scripted):
    model = scripted(picks_good)
    Lamsum(k=2, chunk_passages=10, shuffles=3).read(Run("q", corpus(book=posts(10)), model), None)
    orders = [[n for n, _ in shown(p)] for p in model.prompts]
    assert len(orders) == 3
    assert len({tuple(o) for o in orders}) == 3
    assert len({frozenset(o) for o in orders}) == 1


def test_the_claim_in_miniature_shuffled_votes_depend_less_on_the_order(corpus, scripted):
    """A reader that always likes the first passage of its prompt, beside one good one."""

    def first_and_good(prompt) -> str:
        listed = shown(prompt)
        good = [n for n, text in listed if "GOOD" in text]
        return " ".join(f"[{n}]" for n in dict.fromkeys([listed[0][0], *good]))

    def chosen(shuffles: int, seed: int) -> str:
        reader = Lamsum(k=1, chunk_passages=10, shuffles=shuffles, vote="plurality", seed=seed)
        return reader.read(Run("q", corpus(book=posts(10)), scripted(first_and_good)), None)

    voted = {chosen(9, seed) for seed in range(6)}
    single = {chosen(1, seed) for seed in range(6)}
    assert all("GOOD" in text for text in voted)
    assert len(voted) < len(single)


def test_a_collection_that_has_nothing_to_say_is_not_found(garden, scripted):
    assert Lamsum().read(Run("Who sank the ship?", garden, scripted(lambda p: NOT_FOUND)), None) == NOT_FOUND


def test_calls_are_capped_and_it_says_so(corpus, scripted):
    model = scripted(picks_good)
    run = Run("q", corpus(book=posts(100)), model)
    Lamsum(chunk_passages=10, max_calls=4).read(run, None)
    assert len(model.prompts) == 4
    assert any("max_calls=4" in note for note in run.notes)


def test_errors_name_the_option():
    with pytest.raises(ConfigError, match="vote"):
        Lamsum(vote="loudest")  # type: ignore[arg-type]
