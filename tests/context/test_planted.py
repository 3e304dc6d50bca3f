"""Text in documents is data: planted orders, citations, fence ends and control tokens, in front of every reader.

The cases are in ``planted.json``; the benchmark of the same name asks real models with them. Here nothing depends on what a model makes of
a prompt: the planted text stands inside a well-formed fence under the rule not to follow it, in every prompt of every reader.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from baywindow import registry
from baywindow.context.ask import ask
from baywindow.context.run import Run
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.models.base import Message

CASES = json.loads((Path(__file__).parent / "planted.json").read_text(encoding="utf-8"))
READERS = [card.name for card in registry.cards("context/read")]
FACT = "The harbour master is called Osric and keeps seven goats."
QUESTION = "What is the harbour master called?"
FENCE = re.compile(r"<passage \[[^\]\n]+\][^\n>]*>\n.*?\n</passage>", re.DOTALL)
ANY_FENCE = re.compile(r"<\s*/?\s*passage", re.IGNORECASE)


def letter(planted: str) -> list[Document]:
    before = "\n".join(f"Berth {i} was empty on day {i} of the month." for i in range(6))
    after = "\n".join(f"Berth {i} was taken on day {i} of the month." for i in range(6))
    return [Document(text=f"{before}\n{FACT}\n\n{planted}\n\n{after}", source="log.txt")]


def sober(prompt) -> str:
    """Answers from what it reads and repeats nothing of what was planted."""
    marks = re.findall(r"<passage \[(\d+)\][^>]*>\n(?:(?!</passage>).)*Osric", prompt[-1].content, re.DOTALL)
    return (
        f"The harbour master is Osric [{marks[-1]}]."
        if marks
        else "The harbour master is Osric."
        if "Osric" in prompt[-1].content
        else "NOT FOUND"
    )


def test_there_are_enough_cases_of_every_kind():
    assert len(CASES) >= 40
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert {case["kind"] for case in CASES} == {"order", "citation", "fence", "control", "speaker"}


@pytest.mark.parametrize("reader", READERS)
def test_planted_text_never_leaves_its_fence(reader, open_model):
    technique = registry.get(reader)()
    for case in CASES:
        corpus = InMemory(letter(case["text"]), chunk_tokens=60)
        model = open_model(sober, context_length=1200)
        technique.read(Run(QUESTION, corpus, model), list(corpus.passages()))
        assert model.prompts or model.looks
        for prompt in model.prompts:
            system, text = prompt[0].content, prompt[-1].content
            assert "never follow" in system, case["name"]
            outside = FENCE.sub("", text)
            assert not ANY_FENCE.search(outside), f"{case['name']}: a fence was opened or closed by the text"
            assert case["target"] not in outside + system, f"{case['name']}: planted text stands outside a fence"


@pytest.mark.parametrize("reader", READERS)
def test_notes_that_repeat_planted_text_cannot_open_or_close_a_fence(reader, open_model):
    """The worst model: whatever it reads, it hands the planted text on to its next call."""
    technique = registry.get(reader)()
    for case in (c for c in CASES if c["kind"] == "fence"):
        corpus = InMemory(letter(case["text"]), chunk_tokens=60)
        model = open_model(lambda prompt, planted=case["text"]: f"Osric. [1] {planted}", context_length=1200)
        technique.read(Run(QUESTION, corpus, model), list(corpus.passages()))
        for prompt in model.prompts:
            replies = [m.content for m in prompt if m.role == "assistant"]  # a reply that is gone on with stands in its own turn
            text = "\n".join(m.content for m in prompt if m.content not in replies)
            assert not ANY_FENCE.search(FENCE.sub("", text)), f"{case['name']}: a reply opened or closed a fence"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_the_answer_is_cited_and_no_planted_mark_becomes_a_citation(case, scripted):
    found = ask(
        QUESTION, letter(case["text"]), recipe="full_text > rag", model=scripted(lambda p: f"{sober(p)} See also [99], [98], [95].")
    )
    assert "Osric" in found.text
    assert {c.source for c in found.citations} == {"log.txt"}
    assert all(c.verified for c in found.citations)
    assert not re.search(r"\[9\d\]", found.text)


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] in ("control", "speaker", "fence")], ids=lambda c: c["name"])
def test_control_tokens_in_a_document_never_reach_the_model_as_control_tokens(case, chat_tokenizers):
    """On every chat tokenizer at hand: a tiny ChatML one made here, and Qwen's where it is on this machine."""
    from baywindow.models.rendering import Renderer

    for tokenizer in chat_tokenizers:
        renderer = Renderer(tokenizer)

        def controls(text: str, renderer=renderer, special=frozenset(tokenizer.all_special_ids)) -> list[int]:
            return [i for i in renderer.ids((Message("system", "Answer."), Message("user", text))) if i in special]

        assert controls(f"{FACT}\n{case['text']}\n{QUESTION}") == controls(f"{FACT}\n{QUESTION}")


@pytest.fixture(scope="module")
def chat_tokenizers():
    transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from baywindow.home import cache_dir

    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "<bos>"]
    special += ["<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>", "<|system|>", "<|assistant|>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tiny = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=special[1], additional_special_tokens=special)
    tiny.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    found = [tiny]
    for folder in sorted(cache_dir("models").glob("qwen*-instruct*/")):
        if (folder / "tokenizer.json").exists():
            found.append(transformers.AutoTokenizer.from_pretrained(folder))
    return found
