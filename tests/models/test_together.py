"""A batch of replies with a sampling each: every row is what it would be alone."""

from __future__ import annotations

import threading

import pytest

from baywindow.errors import ContextLengthError
from baywindow.models.base import Message, Sampling

PROMPTS = [[Message("user", "the and the " * n)] for n in (1, 4, 9)]
SAMPLINGS = [
    Sampling(max_new_tokens=12),
    Sampling(max_new_tokens=5),
    Sampling(max_new_tokens=20, temperature=0.8, seed=4),
]


def test_every_row_is_what_it_would_be_alone(load):
    model = load(chat=True)
    alone = [model.generate(p, s).completion for p, s in zip(PROMPTS, SAMPLINGS, strict=True)]
    batch = model.together(PROMPTS, SAMPLINGS)
    steps = list(batch)
    assert [batch.completion(row) for row in range(3)] == alone
    assert ["".join(step[row] for step in steps) for row in range(3)] == [done.text for done in alone]
    assert len(steps) == 20


def test_a_row_that_is_dropped_says_no_more_and_the_others_go_on(load):
    model = load(chat=True)
    alone = model.generate(PROMPTS[0], SAMPLINGS[0]).completion
    batch = model.together(PROMPTS[:2], [SAMPLINGS[0], Sampling(max_new_tokens=50)])
    said = ["", ""]
    for n, step in enumerate(batch):
        said = [before + new for before, new in zip(said, step, strict=True)]
        if n == 2:
            batch.drop(1)
    assert batch.completion(0) == alone
    assert (batch.completion(1).finish, batch.completion(1).generated_tokens) == ("cancelled", 3)
    assert said[1] == batch.completion(1).text
    assert n == 11  # nobody waits for the fifty tokens of the other


def test_a_plain_text_goes_on_without_a_template(load):
    model = load(chat=True)
    scored = model.together(["the and"], [Sampling(max_new_tokens=3)])
    text = "".join(step[0] for step in scored)
    assert scored.completion(0).prompt_tokens == len(model.text_ids("the and"))
    assert scored.completion(0).text == text
    with pytest.raises(ContextLengthError):
        model.together(["the and"], [Sampling(max_new_tokens=model.context_length)])


def test_a_deadline_ends_a_row_before_its_first_token(load):
    batch = load(chat=True).together(PROMPTS[:1], [Sampling(max_new_tokens=5, seconds=0)])
    assert "".join(step[0] for step in batch) == ""
    assert batch.completion(0).finish == "deadline"


def test_lengths_that_are_alike_go_together(load):
    groups = load(chat=True).batches([100, 10, 95, 9], new_tokens=4)
    assert sorted(map(sorted, groups)) == [[0, 2], [1, 3]]


def test_threads_do_not_tokenise_by_each_others_rules(load):
    """A control token is one token of a template and several of a text; both are asked for at once."""
    model = load(chat=True)
    marker = "<|im_end|>"
    right = (len(model.template_ids(marker)), len(model.data_ids(marker)))
    assert right[0] == 1 < right[1]
    wrong = []

    def ask(of, expected):
        for _ in range(300):
            if len(of(marker)) != expected:
                wrong.append(expected)

    threads = [threading.Thread(target=ask, args=pair) for pair in ((model.template_ids, right[0]), (model.data_ids, right[1]))]
    threads += [threading.Thread(target=lambda: [model.count_tokens(marker) == right[1] or wrong.append(0) for _ in range(300)])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
