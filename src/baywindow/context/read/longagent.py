"""A leader asks, one member reads each part, and members that disagree read each other's parts before the leader decides.

Paper: Zhao et al. 2024, LongAgent: Scaling Language Models to 128k Context through Multi-Agent Collaboration, arXiv:2402.11550;
reference code: zuucan/LongAgent.
Idea: the leader, who sees no text, writes an instruction; every member follows it on its own part. Replies that found nothing are
dropped, equal ones form a cluster. While there are two clusters, one member of each hands its part to a reader that sees both parts
and replies anew; clusters that differ from that reply are dissolved. The leader then answers or instructs again, at most ``rounds``
times.
Departs from the paper: see the card.
Shapes and units: ``part_tokens`` of text for one member, at most half of what the window leaves, since two parts are read together;
``reply_tokens`` a reply; tokens of the target model.
Cost: rounds × (parts + merges + 1) + 2 calls at most; ``max_merges`` a round and ``max_calls`` in all cap them.
Errors: ConfigError for an option below its least. When budget or cap end it, the leader answers from the last replies.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from baywindow.budget import Usage
from baywindow.context.base import NoteReader
from baywindow.context.capped import Capped, check_options
from baywindow.context.cite import MARK
from baywindow.context.notes import ANSWER_NOTES_SYSTEM, NOTES_SYSTEM, answer_from_notes, lengths, notes_prompt, reserve
from baywindow.context.parts import all_regions, answer_from_best, count_unread, fitting, marked, parts, prompt_fits
from baywindow.context.prompt import DATA_RULE, Packed, defused, fenced, messages, pack_one
from baywindow.context.reply import NOT_FOUND, Task, declined
from baywindow.context.run import Call, Run
from baywindow.context.structured import Field, Form, ask
from baywindow.documents.base import Passage
from baywindow.models.base import Prompt
from baywindow.registry import technique

LEADER_SYSTEM = (
    "You lead readers who each have one part of a long text that you cannot see. Write one instruction to all of them: what to look for "
    f"in their part so that the question can be answered. {DATA_RULE}"
)
MEMBER = Task(
    rules=f"You have one part of a long text and follow an instruction. {DATA_RULE} {NOTES_SYSTEM}",
    form="Reply with what your part says about it, in as few words as you can. Behind each fact put the number of its passage, like [1].",
    decline=f"If your part does not hold it, reply only: {NOT_FOUND}",
    examples=(
        (
            "<passage [1] from garden.md:1>\nThe beans were sown on 4 May.\n</passage>\n\n"
            "Instruction: Find who painted the fence.\n\nQuestion: Who painted the fence?",
            NOT_FOUND,
        ),
        (
            "<passage [1] from harbour.txt:1>\nThe pier was closed in 1987 after the storm.\n</passage>\n\n"
            "Instruction: Find the year in which the pier closed.\n\nQuestion: When did the pier close?",
            "In 1987. [1]",
        ),
    ),
)
DECISION = Form(
    (
        Field(name="decision", about="answer or instruct", choices=("answer", "instruct")),
        Field(name="instruction", about="the new instruction, or empty"),
    ),
    rest="decision",
)
DECIDE_SYSTEM = (
    "You lead readers who each have one part of a long text. Their replies are below; the truth may be in a single one. Decide: answer, if "
    "the replies are enough to answer the question; instruct, with a new instruction to all readers, if they are not or contradict each "
    f"other. {NOTES_SYSTEM}"
)
DECISION_TOKENS = 96


@dataclass(frozen=True)
class _Cluster:
    """Members that gave the same reply (marks, case and punctuation aside)."""

    reply: str
    members: tuple[int, ...]

    @property
    def key(self) -> str:
        return _plain(self.reply)


@technique(
    summary="a leader instructs one reader a part; readers that disagree re-read both parts together",
    paper="arXiv:2402.11550",
    year=2024,
    claim="When one reader makes an answer up, letting the two that disagree read both parts restores the answer of the true part.",
    departures=(
        "replies cluster by their own words: the reference code's key holds the member's number, so equal replies never meet",
        "a merged reply that finds nothing dissolves both clusters: it cannot stand as an answer",
        "the leader decides first and writes the answer in a call of its own, so that it can stream and cite",
        "a leader that would answer though nobody found anything passes the question itself on, once",
        "an unreadable decision, or an instruction given before, counts as 'answer': a small model must not repeat a round",
        "the member of a cluster is drawn with a fixed seed, so that the same run gives the same prompts",
        "one model plays all roles: the paper fine-tunes a 7B model as member",
        "passage numbers are carried through the replies, so that the answer can cite",
    ),
)
class LongAgent(NoteReader):
    part_tokens: int = 1500
    reply_tokens: int = 512
    max_new_tokens: int = 256
    rounds: int = 3
    max_merges: int = 200
    seed: int = 0
    max_calls: int = 512

    def __post_init__(self) -> None:
        check_options(self, part_tokens=64, reply_tokens=8, max_new_tokens=8, rounds=1, max_merges=0, max_calls=2)

    def read(self, run: Run, passages: list[Passage] | None) -> str:
        reply_tokens, answer_tokens = lengths(run, self.reply_tokens, self.max_new_tokens, share_of=10)
        capped = Capped(run, self.max_calls)
        how = Call(name="member", max_new_tokens=reply_tokens, keep=reserve(run, reply_tokens, answer_tokens))
        packs = self._parts(run, passages, how)
        instruction = _instruction(capped, how) if packs else ""
        asked: list[str] = []
        replies: list[str] = []
        for number in range(1, self.rounds + 1):
            if not packs:
                break
            run.progress(f"round {number}: {len(packs)} members read")
            asked.append(instruction or run.question)
            new = self._round(capped, packs, instruction, replies, replace(how, name=f"member, round {number}"))
            if new is None:
                break
            replies = new
            instruction = _next_instruction(capped, replies, how) if number < self.rounds else ""
            if not instruction or _plain(instruction) in map(_plain, asked):
                break
        if not replies and run.cut_short:
            return answer_from_best(run, passages, "leader", answer_tokens)
        return answer_from_notes(run, _fitting_answer(run, replies, answer_tokens), "leader", answer_tokens)

    def _parts(self, run: Run, passages: list[Passage] | None, how: Call) -> list[Packed]:
        """Parts so small that two of them fit one prompt, beside instruction and last replies."""
        fixed = run.model.count_tokens(_member_prompt(run, (), "", ())) + 3 * how.max_new_tokens
        room = run.room(fixed, how.max_new_tokens, how.keep) // 2
        text_tokens = max(1, min(self.part_tokens, room))
        return parts(
            run, passages, lambda shown: _member_prompt(run, shown, "", ()), how.max_new_tokens, text_tokens=text_tokens, keep=how.keep
        )

    def _round(self, capped: Capped, packs: Sequence[Packed], instruction: str, last: Sequence[str], how: Call) -> list[str] | None:
        """The replies that stand after those that contradict each other were settled; None if the budget allowed no call."""
        run = capped.run
        shared = fitting(run, last, lambda some: run.model.count_tokens("\n".join(some)) <= 2 * how.max_new_tokens, "replies to members")
        prompts = [_pack(run, pack.shown, instruction, shared, how).prompt for pack in packs]
        replies = capped.call_many(prompts, replace(how, regions=all_regions(run, packs)))
        if all(reply is None for reply in replies):
            return None
        count_unread(run, replies)
        clusters = _clusters([marked(run, r, pack.shown) if r and not declined(r) else "" for r, pack in zip(replies, packs, strict=True)])
        return [cluster.reply for cluster in self._settled(capped, packs, clusters, instruction, how)]

    def _settled(self, capped: Capped, packs: Sequence[Packed], clusters: list[_Cluster], instruction: str, how: Call) -> list[_Cluster]:
        """While two clusters contradict each other, a reader of both parts decides between them."""
        run, draw = capped.run, random.Random(self.seed)
        for _ in range(self.max_merges):
            if len(clusters) < 2:
                return clusters
            first, second, *others = clusters
            at = [draw.choice(cluster.members) for cluster in (first, second)]
            shown = tuple(p for i in at for p in packs[i].shown)
            run.progress(f"parts {at[0] + 1} and {at[1] + 1} are read together")
            pack = _pack(run, shown, instruction, (), how)
            merged = capped.call(pack.prompt, replace(how, name="merge", regions=pack.regions(run)))
            if merged is None:
                return clusters
            clusters = _merged(first, second, others, "" if declined(merged) else marked(run, merged, shown))
        if len(clusters) > 1:
            run.note(f"max_merges={self.max_merges} was reached with {len(clusters)} replies that differ")
        return clusters


def _member_prompt(run: Run, shown: Sequence[Passage], instruction: str, last: Sequence[str]) -> Prompt:
    before = "Replies of the last round:\n" + "\n".join(defused(reply) for reply in last) + "\n\n" if last else ""
    task = f"Instruction: {defused(instruction)}\n\n" if instruction else ""
    return MEMBER.prompt(run, f"{fenced(run, shown)}\n\n{before}{task}Question: {run.question}")


def _pack(run: Run, shown: Sequence[Passage], instruction: str, last: Sequence[str], how: Call) -> Packed:
    pack = pack_one(run, shown, lambda some: _member_prompt(run, some, instruction, last), how.max_new_tokens, keep=how.keep)
    if pack.left_out_passages:
        run.note(f"{pack.left_out_passages} of {len(shown)} passages did not fit a member's prompt and were left out")
    return pack


def _instruction(capped: Capped, how: Call) -> str:
    """The leader's first instruction; the question stands for itself if there is none."""
    prompt = messages(LEADER_SYSTEM, f"Question: {capped.run.question}\n\nReply only with the instruction.")
    keep = Usage(calls=how.keep.calls + 1, prompt_tokens=how.keep.prompt_tokens, generated_tokens=how.keep.generated_tokens)
    said = capped.call(prompt, replace(how, name="leader instructs", keep=keep)) or ""
    return "" if declined(said) else said


def _next_instruction(capped: Capped, replies: Sequence[str], how: Call) -> str:
    """What the members shall look for now; empty if the leader can answer, which it cannot as long as nothing was found."""
    run = capped.run

    def prompt(some: Sequence[str]) -> Prompt:
        text = "\n".join(defused(reply) for reply in some) or "(none of the readers found anything)"
        return messages(DECIDE_SYSTEM, f"Replies:\n{text}\n\nQuestion: {run.question}\n\n{DECISION.wording}")

    shown = fitting(run, replies, lambda some: prompt_fits(run, prompt(some), DECISION_TOKENS, how.keep), "replies to the leader")
    decision = ask(capped, prompt(shown), DECISION, replace(how, name="leader decides", max_new_tokens=DECISION_TOKENS))
    if decision is None or decision.text("decision") != "instruct":
        return "" if replies else run.question
    return decision.text("instruction")


def _clusters(replies: Sequence[str]) -> list[_Cluster]:
    """Equal replies together, in order of their first member; empty ones are no reply."""
    found: dict[str, _Cluster] = {}
    for i, reply in enumerate(replies):
        if reply:
            old = found.get(_plain(reply))
            found[_plain(reply)] = _Cluster(reply, (i,)) if old is None else replace(old, members=(*old.members, i))
    return list(found.values())


def _merged(first: _Cluster, second: _Cluster, others: list[_Cluster], reply: str) -> list[_Cluster]:
    """What is left when a reader of both parts gave this reply (empty: it found nothing)."""
    key = _plain(reply)
    for cluster in (first, second):
        if reply and cluster.key == key:
            return [cluster, *others]
    if not reply:
        return others
    for i, other in enumerate(others):  # the new reply is one that others gave already
        if other.key == key:
            return [*others[:i], replace(other, members=(*other.members, *first.members, *second.members)), *others[i + 1 :]]
    nearer = first if _alike(first.key, key) > _alike(second.key, key) else second
    return [*others, _Cluster(reply, nearer.members)]


def _alike(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", MARK.sub(" ", text).lower()))


def _fitting_answer(run: Run, replies: Sequence[str], answer_tokens: int) -> list[str]:
    return fitting(run, replies, lambda some: prompt_fits(run, notes_prompt(run, some, ANSWER_NOTES_SYSTEM), answer_tokens), "replies")
