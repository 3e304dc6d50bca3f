"""A conversation that remembers: what the memory recalls and what was said last go into each prompt, and every turn is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from baywindow.budget import NOTHING, Budget, Meter, Usage
from baywindow.cli.chat.standalone import left_of, standalone
from baywindow.config import Settings
from baywindow.context.ask import ask
from baywindow.documents.base import Corpus
from baywindow.memory.answers import Added, Remembered
from baywindow.memory.memory import Memory
from baywindow.memory.prompting import packed_newest, rendered
from baywindow.memory.records import Recalled, Scope, Turn, of_turn
from baywindow.models.base import LanguageModel, Message, Prompt, Sampling
from baywindow.recipe import Recipe
from baywindow.registry import Technique
from baywindow.trace import Citation, Event

SYSTEM = "You are a helpful assistant who remembers earlier conversations. Answer briefly, and say so when you do not know."
REPLY_TOKENS = 256
RECENT_SHARE = 4  # one part in so many of the room is for what was said last


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What was said back; ``recalled`` are the memories its prompt held, ``recent`` the turns of this session in it. ``asked`` is what the
    documents were asked, where that is not what the person wrote."""

    text: str
    recalled: tuple[Recalled, ...]
    recent: tuple[Turn, ...]
    citations: tuple[Citation, ...] = ()
    notes: tuple[str, ...] = ()
    usage: Usage = NOTHING
    asked: str = ""


class Conversation:
    """One session of one person. ``memory`` recalls from all the person's sessions; ``scope`` names this one, where turns are kept.

    With a ``corpus`` questions are asked of it through the recipe; without one the model just answers.
    """

    def __init__(
        self,
        memory: Memory,
        model: LanguageModel,
        plan: Recipe,
        scope: Scope,
        *,
        corpus: Corpus | None = None,
        budget: Budget | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.memory, self.model, self.plan, self.scope = memory, model, plan, scope
        self._corpus, self._budget, self._settings = corpus, budget or Budget(), settings or Settings()
        self.last: Reply | None = None

    @property
    def turns(self) -> list[Turn]:
        """Everything said in this session, oldest first."""
        return [turn for turn in self.memory.list(self.scope, said=True) if isinstance(turn, Turn)]

    def say(self, text: str, on_event: Callable[[Event], None] = lambda event: None) -> Reply:
        """Answer, telling ``on_event`` the pieces as they come. Nothing is kept yet, see `keep`."""
        recollecting = _Recollecting(self.memory, self.turns)
        self.last = self._direct(text, recollecting, on_event) if self._corpus is None else self._read(text, recollecting, on_event)
        return self.last

    def keep(self, text: str, reply: Reply | None) -> Added:
        """Keep what was said and what was answered; without a reply (it was stopped) the person's words alone."""
        said = [{"role": "user", "content": text}]
        if reply is not None and reply.text.strip():
            said.append({"role": "assistant", "content": reply.text})
        place = str(len(self.turns))  # the same words may be said twice in one session, and were then said twice
        return self.memory.add([one | {"ref": f"{place}.{i}"} for i, one in enumerate(said)], self.scope)

    def _read(self, text: str, recollecting: _Recollecting, on_event: Callable[[Event], None]) -> Reply:
        assert self._corpus is not None
        meter = Meter(budget=self._budget, prices=self._settings.token_prices())
        question = standalone(text, recollecting.turns, self.model, meter)
        answer = ask(
            question,
            self._corpus,
            recipe=Recipe((), self.plan.outside),
            model=self.model,
            budget=left_of(self._budget, meter),
            memory=recollecting,
            on_event=on_event,
            settings=self._settings,
        )
        return Reply(
            text=answer.text,
            recalled=recollecting.recalled,
            recent=recollecting.shown,
            citations=answer.citations,
            notes=answer.trace.notes,
            usage=meter.usage + answer.usage,
            asked="" if question == text else question,
        )

    def _direct(self, text: str, recollecting: _Recollecting, on_event: Callable[[Event], None]) -> Reply:
        meter = Meter(budget=self._budget, prices=self._settings.token_prices())
        room = self.model.context_length - REPLY_TOKENS - self.model.count_tokens(self._prompt(text, "", ()))
        part = next(iter(self.plan.of_room("memory")), None)
        block = self.memory.recall_for(part, text, self.model, meter, max(0, room // 2))
        recent = recollecting.newest(max(0, room // RECENT_SHARE), self.model.count_tokens)
        recalled = _without(block.items, recent)
        prompt = self._prompt(text, rendered(recalled), recent)
        stream = self.model.generate(prompt, Sampling(max_new_tokens=REPLY_TOKENS, seconds=meter.seconds_left()))
        for piece in stream:
            on_event(Event(kind="token", text=piece))
        done = stream.completion
        meter.charge(done.prompt_tokens, done.generated_tokens, estimated=done.estimated)
        return Reply(text=done.text.strip(), recalled=recalled, recent=tuple(recent), notes=block.notes, usage=meter.usage)

    @staticmethod
    def _prompt(text: str, remembered: str, recent: Sequence[Turn]) -> Prompt:
        system = f"{SYSTEM}\n\n{remembered}" if remembered else SYSTEM
        before = [Message("assistant" if turn.role == "assistant" else "user", turn.text) for turn in recent]
        return (Message("system", system), *before, Message("user", text))


class _Recollecting:
    """A memory together with what was said last in this session: a follow-up makes no sense without it."""

    def __init__(self, memory: Memory, turns: Sequence[Turn]) -> None:
        self._memory, self.turns = memory, turns
        self.recalled: tuple[Recalled, ...] = ()
        self.shown: tuple[Turn, ...] = ()

    def recall_for(self, part: Technique | None, question: str, model: LanguageModel, meter: Meter, most_tokens: int) -> Remembered:
        recent = self.newest(most_tokens // 2, model.count_tokens)
        block = self._memory.recall_for(part, question, model, meter, most_tokens - most_tokens // 2)
        self.recalled, self.shown = _without(block.items, recent), tuple(recent)
        items = (*self.recalled, *(replace(of_turn(turn), tokens=model.count_tokens(turn.line)) for turn in recent))
        text = rendered(items)
        return Remembered(items, text, model.count_tokens(text) if text else 0, block.notes)

    def newest(self, most_tokens: int, count: Callable[[str], int]) -> list[Turn]:
        """The last turns that fit, oldest of them first."""
        fitting = packed_newest([of_turn(turn) for turn in self.turns], most_tokens, count) if self.turns else []
        whole = {turn.line: turn for turn in self.turns}
        return [whole[one.text] for one in fitting if one.text in whole]


def _without(items: Sequence[Recalled], recent: Sequence[Turn]) -> tuple[Recalled, ...]:
    """Recalled turns that stand in the prompt anyway are not said twice."""
    there = {turn.id for turn in recent}
    return tuple(one for one in items if one.record or not there.issuperset(one.turns))
