"""Read a long text chunk by chunk, each worker passing one rewritten message to the next.

Paper: Zhang et al. 2024, Chain of Agents: Large Language Models Collaborating on Long-Context Tasks, arXiv:2406.02818. No code was
released with it; the order of messages follows the paper's Algorithm 1.
Idea: worker i sees its chunk, the message of worker i-1 and the question, and returns one message that merges the old one with
what the chunk adds. The manager sees only the last message and the question, and answers.
Departs from the paper: see the card.
Shapes and units: ``window_tokens`` is the paper's k, the prompt of one worker, at most the model's window; ``message_tokens`` is
what a worker may write. All in tokens of the target model.
Cost: one call a chunk, in sequence, plus one: ⌈text / (window_tokens - message_tokens - instructions)⌉ + 1 calls.
Errors: ContextLengthError if the window cannot hold question, message and some text. When the budget ends, the manager answers
from the last message and the unread chunks are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from baywindow.budget import Usage
from baywindow.context.base import NoteReader
from baywindow.context.notes import answer_from_notes, lengths, reserve
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, pack_all
from baywindow.context.reply import NOT_FOUND, Task, declined
from baywindow.context.run import Call, Run
from baywindow.documents.base import Passage
from baywindow.errors import ConfigError
from baywindow.models.base import Prompt
from baywindow.registry import technique

NO_MESSAGE = "(none yet)"
WORKER = Task(
    rules=f"You read one part of a long text and pass a message on to the next reader. {DATA_RULE}",
    form=(
        "Write the new message: what the previous message and this part say that helps to answer the question. "
        "Behind each fact keep the number of its passage, like [1]."
    ),
    decline=f"If there is nothing to pass on yet, reply only: {NOT_FOUND}",
    examples=(
        (
            f"Previous message: {NO_MESSAGE}\n\n<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\n"
            "Question: Who painted the fence?",
            NOT_FOUND,
        ),
        (
            "Previous message: The pier was built in 1902. [1]\n\n<passage [2] from harbour.txt:9>\nA storm destroyed the pier in 1987.\n"
            "</passage>\n\nQuestion: When was the pier destroyed?",
            "The pier was built in 1902 [1] and destroyed by a storm in 1987. [2]",
        ),
    ),
)


@technique(
    summary="workers read chunk after chunk and pass on one message; a manager answers from it",
    paper="arXiv:2406.02818",
    year=2024,
    claim="A chained worker-manager reader answers more multi-hop questions than truncation or top-k retrieval at the same window.",
    departures=(
        "chunks are packed from structure-aware passages, not sentences, so that every citation keeps its exact span",
        "room for the previous message is reserved, which the paper's budget leaves out: without it later workers overflow",
        "messages and the answer are shortened in small windows and budgets: the paper's 1,024 tokens would leave no room to read",
        "a worker that finds nothing passes the previous message on unchanged, so that a small model cannot lose it",
        "passage numbers are carried through the messages, so that the answer can cite",
        "one left-to-right pass only: the paper's ensembles multiply the calls",
    ),
)
class ChainOfAgents(NoteReader):
    window_tokens: int = 8192  # k
    message_tokens: int = 1024
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        for name in ("window_tokens", "message_tokens", "max_new_tokens"):
            if getattr(self, name) < 8:
                raise ConfigError.bad_value(name, getattr(self, name), "at least 8")

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        message_tokens, answer_tokens = lengths(run, self.message_tokens, self.max_new_tokens)
        keep = reserve(run, message_tokens, answer_tokens)
        packs = self._packs(run, passages, message_tokens, keep)
        message = self._pass_along(run, packs, message_tokens, keep)
        notes = [] if declined(message) or not message else [message]
        return answer_from_notes(run, notes, "manager", answer_tokens)

    def _packs(self, run: Run, passages: list[Passage] | None, message_tokens: int, keep: Usage) -> list[Packed]:
        def frame(shown: Sequence[Passage]) -> Prompt:
            return self._prompt(run, shown, NO_MESSAGE)

        source = run.corpus.passages() if passages is None else passages
        # Room for the previous message is held back, beside the room to write the next one.
        return pack_all(run, source, frame, message_tokens, keep=keep, limit_tokens=self.window_tokens, reserve_tokens=message_tokens)

    def _pass_along(self, run: Run, packs: Sequence[Packed], message_tokens: int, keep: Usage) -> str:
        message = ""
        for i, pack in enumerate(packs, 1):
            run.progress(f"worker {i} of {len(packs)}")
            prompt = self._prompt(run, pack.shown, message or NO_MESSAGE)
            how = Call(name=f"worker {i}", max_new_tokens=message_tokens, keep=keep, regions=pack.regions(run))
            reply = run.call(prompt, how)
            if reply is None:
                run.note(f"{len(packs) - i + 1} of {len(packs)} chunks were not read")
                break
            # A worker that finds nothing passes the previous message on unchanged.
            if not declined(reply):
                message = reply
        return message

    @staticmethod
    def _prompt(run: Run, shown: Sequence[Passage], message: str) -> Prompt:
        return WORKER.prompt(run, f"Previous message: {defused(message)}\n\n{fenced(run, shown)}\n\nQuestion: {run.question}")
