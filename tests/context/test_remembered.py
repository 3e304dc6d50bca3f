"""`ask` with a memory: its block stands in the last call of whichever reader, and nothing else of this room knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from baywindow.budget import Meter
from baywindow.context.ask import ask
from baywindow.documents.base import Document
from baywindow.errors import RecipeError
from baywindow.memory.memory import Memory
from baywindow.memory.records import Scope
from baywindow.models.base import LanguageModel
from baywindow.registry import Technique
from baywindow.trace import Region

DOCUMENTS = [Document("The beans were sown on 4 May. " * 3 + "Ida painted the fence green in June.", "garden.txt")]


@dataclass
class Fixed:
    """A memory that always recalls the same."""

    text: str = "<remembered>\n- Ann likes short answers.\n</remembered>"
    notes: tuple[str, ...] = ("from far back",)
    asked: list[tuple[Technique | None, str, int]] = field(default_factory=list)

    @property
    def regions(self) -> tuple[Region, ...]:
        return (Region(kind="memory", tokens=5, fate="retrieved", source="memory/m1"),) if self.text else ()

    def recall_for(self, part: Technique | None, question: str, model: LanguageModel, meter: Meter, most_tokens: int) -> Fixed:
        self.asked.append((part, question, most_tokens))
        return self


def last_message(model) -> str:
    return str(model.prompts[-1][-1].content)


def test_the_block_stands_before_the_passages_and_in_the_trace(scripted) -> None:
    model, memory = scripted(["In June. [1]"]), Fixed()
    answer = ask("When was the fence painted?", DOCUMENTS, recipe="last_turns > full_text > stuff", model=model, memory=memory)
    assert last_message(model).startswith("<remembered>\n- Ann likes short answers.\n</remembered>\n\n<passage [1]")
    assert answer.citations[0].verified
    assert answer.trace.recipe == "last_turns > full_text > stuff"
    assert answer.trace.steps[0].name == "last_turns"
    assert [r.source for r in answer.trace.steps[-1].regions if r.kind == "memory"] == ["memory/m1"]
    assert "from far back" in answer.trace.notes
    ((part, question, most),) = memory.asked
    assert (part.card.name, question) == ("last_turns", "When was the fence painted?")
    assert most == 4096 // 2


def test_only_the_last_of_many_calls_shows_it(scripted) -> None:
    model = scripted(lambda prompt: "Ida painted it in June. [1]")
    ask("When?", DOCUMENTS, recipe="last_turns > chain_of_agents", model=model, memory=Fixed())
    held = ["remembered" in prompt[-1].content for prompt in model.prompts]
    assert held == [False] * (len(held) - 1) + [True]
    assert len(held) >= 2


def test_it_takes_its_room_from_the_window(scripted) -> None:
    long = Fixed(text="<remembered>\n" + "word " * 150 + "\n</remembered>")
    documents = [Document("The beans were sown. " * 400, "garden.txt")]
    model = scripted(["Sown. [1]"], context_length=600)  # the scripted model refuses a call above its window
    ask("What was sown?", documents, recipe="last_turns > stuff(max_new_tokens=50)", model=model, memory=long)
    assert "word word" in last_message(model)
    assert "The beans were sown" in last_message(model)


def test_a_memory_without_a_part_in_the_recipe_recalls_by_itself(scripted) -> None:
    model, memory = scripted(["In June. [1]"]), Fixed()
    ask("When was the fence painted?", DOCUMENTS, recipe="full_text > stuff", model=model, memory=memory)
    assert memory.asked[0][0] is None
    assert "Ann likes" in last_message(model)


def test_nothing_remembered_changes_nothing(scripted) -> None:
    plain, with_memory = scripted(["In June. [1]"]), scripted(["In June. [1]"])
    ask("When?", DOCUMENTS, recipe="full_text > stuff", model=plain)
    ask("When?", DOCUMENTS, recipe="last_turns > full_text > stuff", model=with_memory, memory=Fixed(text=""))
    assert plain.prompts == with_memory.prompts


def test_a_memory_in_the_recipe_needs_one(scripted) -> None:
    with pytest.raises(RecipeError, match="last_turns needs a memory to recall from"):
        ask("When?", DOCUMENTS, recipe="last_turns > full_text > stuff", model=scripted([]))


def test_a_reader_without_a_place_for_it_says_so(scripted) -> None:
    model = scripted(lambda prompt: "<statement>Ida painted it.<cite>[1-1]</cite></statement>")
    answer = ask("When?", DOCUMENTS, recipe="last_turns > longcite", model=model, memory=Fixed())
    assert any("without what was remembered" in note for note in answer.trace.notes)


def test_with_a_real_memory(scripted, tmp_path) -> None:
    model = scripted(["Green, Ann. [1]"])
    with Memory(tmp_path / "m", "turn_retrieval(by='words')", scope=Scope("ann")) as memory:
        memory.add([{"role": "user", "name": "Ann", "content": "I want to hear about the fence.", "said_at": "2024-05-07"}])
        recipe = "turn_retrieval(by='words', budget_tokens=40) > full_text > stuff"
        answer = ask("Which colour has the fence?", DOCUMENTS, recipe=recipe, model=model, memory=memory)
    assert "- [2024-05-07] Ann: I want to hear about the fence." in last_message(model)
    (region,) = [r for r in answer.trace.steps[-1].regions if r.kind == "memory"]
    assert region.source.startswith("memory/t")
    assert region.tokens > 0
