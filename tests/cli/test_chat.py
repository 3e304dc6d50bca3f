"""`bay chat`: what goes into a prompt, what is kept, and the commands; a scripted model, a real store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baywindow import recipe as recipes
from baywindow.budget import Budget
from baywindow.cli.chat import _exchange
from baywindow.cli.chat.commands import obey
from baywindow.cli.chat.conversation import REPLY_TOKENS, Conversation
from baywindow.documents.base import Document
from baywindow.documents.memory import InMemory
from baywindow.memory.memory import Memory
from baywindow.memory.prompting import OPEN
from baywindow.memory.records import Scope
from baywindow.models.base import Completion, LanguageModel, Prompt, Sampling, Stream

LINE = 'turn_retrieval(by="words") > full_text(k=1) > rag'


class Talker(LanguageModel):
    """Says what ``reply`` makes of a prompt; a token is a word."""

    name = "talker"

    def __init__(self, reply: Callable[[Prompt], str] = lambda prompt: "I see.", context_length: int = 1200) -> None:
        self.reply, self.context_length = reply, context_length
        self.prompts: list[Prompt] = []

    def count_tokens(self, text: str | Prompt) -> int:
        return len(text.split()) if isinstance(text, str) else sum(len(m.content.split()) + 2 for m in text)

    def generate(self, prompt: Prompt, sampling: Sampling = Sampling()) -> Stream:
        assert self.count_tokens(prompt) + sampling.max_new_tokens <= self.context_length, "a call exceeds the window"
        self.prompts.append(prompt)
        words = re.findall(r"\S+\s*", self.reply(prompt))
        said, ended = words[: sampling.max_new_tokens], "length" if len(words) > sampling.max_new_tokens else "stop"
        done = Completion(text="".join(said), prompt_tokens=self.count_tokens(prompt), generated_tokens=len(said), finish=ended)
        return Stream(iter(said), lambda text: done)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Callable[..., Conversation]]:
    opened: list[Memory] = []

    def start(model: Talker, line: str = LINE, session: str = "s", corpus: Any = None) -> Conversation:
        memory = Memory(tmp_path / "memory", recipes.parse(line).outside[0], model=model)  # type: ignore[arg-type]
        opened.append(memory)
        return Conversation(memory, model, recipes.parse(line).with_defaults(), Scope(session=session), corpus=corpus)

    yield start
    for memory in opened:
        memory.close()


def exchange(conversation: Conversation, line: str) -> str:
    reply = conversation.say(line)
    conversation.keep(line, reply)
    return reply.text


def test_the_last_turns_are_messages_and_other_sessions_are_recalled(talk):
    earlier = talk(Talker(), session="monday")
    exchange(earlier, "My goat is called Bertha.")
    model = Talker(lambda prompt: "Bertha." if "Bertha" in prompt[0].content else "I do not know.")
    today = talk(model, session="tuesday")
    exchange(today, "Good morning!")
    assert exchange(today, "What is my goat called?") == "Bertha."
    system, *rest = model.prompts[-1]
    assert OPEN in system.content
    assert "user: My goat is called Bertha." in system.content
    assert [(m.role, m.content) for m in rest] == [
        ("user", "Good morning!"), ("assistant", "I do not know."), ("user", "What is my goat called?")
    ]  # fmt: skip
    assert "Good morning!" not in system.content  # once is enough


def test_a_session_is_resumed_with_all_its_turns(talk):
    exchange(talk(Talker()), "One.")
    again = talk(Talker())
    exchange(again, "Two.")
    assert [turn.text for turn in again.turns] == ["One.", "I see.", "Two.", "I see."]
    assert [m.content for m in again.model.prompts[-1]][1:] == ["One.", "I see.", "Two."]


def test_the_same_words_said_twice_are_two_turns(talk):
    conversation = talk(Talker())
    exchange(conversation, "Hello.")
    exchange(conversation, "Hello.")
    assert [turn.text for turn in conversation.turns] == ["Hello.", "I see."] * 2


def test_a_long_conversation_never_exceeds_the_window(talk):
    model = Talker(context_length=REPLY_TOKENS + 120)
    conversation = talk(model)
    for n in range(30):
        exchange(conversation, f"Line {n}: the beans were watered and the weather was written down in the notebook.")
    assert len(conversation.turns) == 60
    assert model.prompts[-1][-1].content.startswith("Line 29")


def test_documents_and_memory_stand_in_one_prompt(talk):
    corpus = InMemory([Document("The fence was painted by Ida.\n\nThe roof was mended in 1987.", "house.md")], chunk_tokens=9)
    model = Talker(lambda prompt: "Ida. [1]")
    conversation = talk(model, corpus=corpus)
    exchange(conversation, "I live in the house with the fence.")
    reply = conversation.say("Who painted the fence?")
    content = model.prompts[-1][-1].content
    assert content.index("I live in the house") < content.index("painted by Ida")
    assert [c.place for c in reply.citations] == ["house.md:1"]
    assert [turn.text for turn in reply.recent] == ["I live in the house with the fence.", "Ida. [1]"]


FENCE = Document("The fence was painted by Ida.\n\nThe fence was painted in 1987.\n\nBread is baked every morning.", "house.md")


def follow_up(talk, rewritten, **model):
    """Asks who painted the fence, and then when; the model, the second conversation turn, and what was asked of the documents."""

    def reply(prompt):
        return rewritten if "Rewritten message:" in prompt[-1].content else "Ida. [1]"

    talker = Talker(reply)
    for name, value in model.items():
        setattr(talker, name, value)
    conversation = talk(talker, corpus=InMemory([FENCE], chunk_tokens=9))
    exchange(conversation, "Who painted the fence?")
    assert len(talker.prompts) == 1  # nothing was said before it
    reply = conversation.say("Painted when?")
    conversation.keep("Painted when?", reply)
    return talker, conversation, reply


def test_a_follow_up_is_asked_as_a_question_that_stands_alone(talk, capsys):
    talker, conversation, reply = follow_up(talk, '"When was the fence painted in that year? [1]"')
    rewriting, answering = talker.prompts[1:]
    assert "Who painted the fence?" in rewriting[-1].content
    assert rewriting[-1].content.endswith("Last message:\nPainted when?\n\nRewritten message:")
    assert "When was the fence painted in that year?" in answering[-1].content
    assert "fence was painted" in answering[-1].content
    assert reply.asked == "When was the fence painted in that year?"
    assert reply.usage.calls == 2
    assert reply.usage.prompt_tokens == sum(map(talker.count_tokens, talker.prompts[1:]))
    assert conversation.turns[-2].text == "Painted when?"  # what was said is what is kept
    obey("/why", conversation)
    assert "documents were asked: When was the fence painted" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "rewritten",
    [
        "",
        "It was painted by Oskar in the garden.",  # a name that nobody said
        "The fence was painted in 1990.",  # a number that nobody said
        "When was the fence painted?\nWhen was it?",
        "Ida painted the fence.",  # an answer
        "Qualche cosa altra?",  # no word of the conversation
        "When? " * 80,  # cut off
    ],
)
def test_a_rewriting_that_cannot_be_trusted_is_not_used(talk, rewritten):
    talker, _, reply = follow_up(talk, rewritten)
    assert reply.asked == ""
    assert "Painted when?" in talker.prompts[-1][-1].content


def test_a_base_model_is_not_asked_to_rewrite(talk):
    talker, _, reply = follow_up(talk, "When was the fence painted?", instructed=False)
    assert len(talker.prompts) == 2
    assert reply.asked == ""


def test_the_rewriting_comes_out_of_the_budget_or_is_left_out(talk):
    for budget, calls in ((Budget(calls=1), 1), (Budget(calls=2), 2), (Budget(tokens=500), 1), (Budget(tokens=100_000), 2)):
        talker = Talker(lambda p: "When was the fence painted?" if "Rewritten message:" in p[-1].content else "Ida. [1]")
        conversation = talk(talker, corpus=InMemory([FENCE], chunk_tokens=9), session=str(budget))
        exchange(conversation, "Who painted the fence?")
        conversation._budget = budget
        assert conversation.say("Painted when?").usage.calls == calls
        assert len(talker.prompts) == 1 + calls


def test_a_stopped_reply_keeps_the_words(talk, capsys):
    def stops(prompt: Prompt) -> str:
        raise KeyboardInterrupt

    conversation = talk(Talker(stops))
    _exchange(conversation, "Remember the third pot.")
    assert [turn.text for turn in conversation.turns] == ["Remember the third pot."]


def test_what_was_recalled_is_not_kept_as_new(talk):
    model = Talker(lambda prompt: prompt[0].content)  # a model that repeats its prompt
    conversation = talk(model)
    exchange(conversation, "My goat is called Bertha.")
    exchange(talk(model, session="other"), "What is my goat called?")
    kept = [turn.text for turn in conversation.memory.list(Scope(), said=True)]
    assert sum("Bertha" in text for text in kept) == 1


def test_commands(talk, capsys):
    conversation = talk(Talker())
    exchange(conversation, "My goat is called Bertha.")
    exchange(conversation, "What is my goat called?")
    assert obey("/memory goat Bertha", conversation)
    line = next(line for line in capsys.readouterr().out.splitlines() if "Bertha" in line)
    id = line.split()[0]
    assert obey("/why", conversation)
    assert "2 turns of this session" in capsys.readouterr().err.replace("\n", " ")
    assert obey(f"/history {id}", conversation)
    assert "user: My goat is called Bertha." in capsys.readouterr().out
    assert obey(f"/forget {id}", conversation)
    assert "forgot 1 turn and 0 memories" in capsys.readouterr().out
    assert not any("Bertha" in turn.text for turn in conversation.turns)
    assert obey("/forget nothing", conversation)
    assert "there is no memory" in capsys.readouterr().err
    assert obey("/nonsense", conversation)
    assert "no command" in capsys.readouterr().err
    assert not obey("/quit", conversation)


def test_the_command_itself_with_a_pipe(bay, monkeypatch, tmp_path):
    from baywindow.models import select

    monkeypatch.setattr(select, "load", lambda name, settings, progress=None: Talker())
    monkeypatch.setattr("builtins.input", iter(["Hello.", "/why", "How are you?"]).__next__)

    def ended(prompt: str = "") -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    lines = iter(["Hello.", "/why", "How are you?"])
    monkeypatch.setattr("builtins.input", ended)
    done = bay("chat", "--store", str(tmp_path / "m"), "--recipe", 'turn_retrieval(by="words")')
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("I see.") == 2
    listed = bay("chat", "--store", str(tmp_path / "m"), "--sessions")
    assert listed.stdout.startswith("main\t4 turns\t")


def test_a_recipe_that_reads_needs_documents(bay):
    done = bay("chat", "--recipe", "hybrid > rag")
    assert done.exit_code == 2
    assert "none were named" in done.stderr
