"""What a person may type in a chat besides talking: lines that begin with a slash."""

from __future__ import annotations

from baywindow.cli import output
from baywindow.cli.chat.conversation import Conversation
from baywindow.errors import BayError, ConfigError
from baywindow.memory.records import Recalled, Record, Turn

HELP = {
    "/memory [words]": "what is remembered, or what fits the words best",
    "/why": "which memories and turns the last prompt held, and what documents were asked",
    "/history ID": "where a memory comes from, and its versions",
    "/forget ID": "take out a memory, and the words it rests on",
    "/help": "this",
    "/quit": "end; so does Ctrl-D",
}
SHOWN = 20


def obey(line: str, conversation: Conversation) -> bool:
    """Do what the line says; False if it ends the chat. What goes wrong is told and the chat goes on."""
    name, _, rest = line.strip().partition(" ")
    try:
        match name:
            case "/quit" | "/exit":
                return False
            case "/memory":
                memory(conversation, rest.strip())
            case "/why":
                why(conversation)
            case "/history":
                history(conversation, rest.strip())
            case "/forget":
                forget(conversation, rest.strip())
            case "/help":
                for typed, does in HELP.items():
                    output.say(f"  {typed:16} {does}")
            case _:
                raise ConfigError(f"{name} is no command of the chat", hint="/help lists them")
    except BayError as error:
        output.complain(f"error: {error.message}")
        if error.hint:
            output.complain(f"hint: {error.hint}")
    return True


def memory(conversation: Conversation, words: str) -> None:
    kept = conversation.memory
    found = kept.search(words, k=SHOWN) if words else kept.list()[-SHOWN:]
    for one in found:
        show(one)
    if not found:
        output.remark("nothing is remembered yet" if not words else "nothing fits")


def why(conversation: Conversation) -> None:
    last = conversation.last
    if last is None:
        raise ConfigError("nothing was asked yet", hint="/why tells what the last prompt held")
    if last.asked:
        output.remark(f"documents were asked: {last.asked}")
    for one in last.recalled:
        show(one)
    count = output.counted(len(last.recalled), "memory", "memories")
    output.remark(f"{count}, and the last {output.counted(len(last.recent), 'turn')} of this session")


def history(conversation: Conversation, id: str) -> None:
    told = conversation.memory.history(_needed(id))
    for turn in told.turns:
        output.say(f"  said {turn.said_at:%Y-%m-%d}  {turn.line}")
    for version in told.versions:
        output.say(f"  {'now ' if version.current else 'was '} {version.text}", style=None if version.current else "dim")


def forget(conversation: Conversation, id: str) -> None:
    gone = conversation.memory.forget(_needed(id))
    turns, memories = output.counted(len(gone.turns), "turn"), output.counted(len(gone.records), "memory", "memories")
    output.say(f"forgot {turns} and {memories}")


def show(one: Turn | Record | Recalled) -> None:
    text = one.line if isinstance(one, Turn) else one.text
    output.say(f"  {one.id}  {one.said_at:%Y-%m-%d}  {output.shorten(text, 200)}")


def _needed(id: str) -> str:
    if not id:
        raise ConfigError("which memory?", hint="/memory lists them with their ids")
    return id
