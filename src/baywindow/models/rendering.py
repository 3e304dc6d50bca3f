"""Prompts to token ids. Message content is data: no control token written inside it ever becomes one.

A chat template is rendered with unguessable placeholders for the contents, which shows what belongs to the template. With the
contents put in their places the text is tokenised in the ordinary way; if every control token of it lies inside template text, these
are the ids, by construction those the model was trained on. Otherwise some content spells a control token: then template pieces and
contents are tokenised apart, contents with control tokens split into plain characters. Only in that case may tokens differ at a join
(a line break of the template and one of the content that would else have merged).

Control tokens are the tokenizer's added tokens marked special. Templates that strip contents are noticed (the placeholders carry
blanks that vanish) and content is stripped alike.

Tools and the arguments of calls go through the template as they are, for templates look into them. Only a string in them that spells a
control token is replaced by a placeholder, and stands in the text as JSON writes it.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baywindow.errors import CapabilityError, ModelError
from baywindow.models.base import Message, Prompt
from baywindow.models.plain import Examples, plain_prompt

# A blank that templates do not write themselves, but that str.strip (the trim filter) removes.
_PAD = "\N{EM SPACE}"
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered prompt; ``data`` is content, which must not yield control tokens."""

    text: str
    data: bool


class Renderer:
    """Renders and tokenises for one tokenizer (a fast one of transformers), in any thread.

    ``lock`` is held while it is used: what is cut and what counts as a control token are settings of the tokenizer itself, set by every
    call, so two threads at once would tokenise content by each other's rules.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.lock = threading.RLock()
        self._tokenizer = tokenizer
        self.has_template = bool(tokenizer.chat_template)
        self._special = frozenset(tokenizer.all_special_ids) | {
            number for number, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self._controls = tuple(tokenizer.convert_ids_to_tokens(sorted(self._special)))

    @property
    def takes_tools(self) -> bool:
        """Whether the template says anything of tools."""
        return "tools" in str(self._tokenizer.chat_template or "")

    def ids(self, prompt: Prompt, examples: Examples = (), tools: Tools = ()) -> list[int]:
        """Token ids of a whole prompt, ready for the next token of the reply. ModelError if the template refuses the roles,
        CapabilityError if it knows no tools."""
        if tools and not self.takes_tools:
            raise CapabilityError("the model's chat template knows no tools", hint="choose a model that was trained to call tools")
        if not self.has_template:
            return [*self.start(), *self.data_ids(plain_prompt(prompt, examples))]
        pieces = self.pieces(prompt, tools=tools)
        ordinary = self._ordinary(pieces)
        return ordinary if ordinary is not None else self._apart(pieces)

    def start(self) -> list[int]:
        """What the tokenizer puts before a plain text (a BOS, or nothing)."""
        with self.lock:
            marked: list[int] = self._tokenizer("", add_special_tokens=True).input_ids
        eos = self._tokenizer.eos_token_id
        return marked[:-1] if marked and len(marked) > 1 and marked[-1] == eos else marked

    def data_ids(self, text: str) -> list[int]:
        """Token ids of a text, control tokens in it split into plain characters."""
        with self.lock:
            found: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        return found

    def count(self, text: str) -> int:
        """``len(data_ids(text))``, without the offsets and lists that a count does not need: a third less time on long texts."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return len(self.data_ids(text))
        with self.lock:
            # what an earlier call left set; transformers sets all three anew on each of its own calls
            backend.encode_special_tokens = True
            if backend.truncation is not None:
                backend.no_truncation()
            if backend.padding is not None:
                backend.no_padding()
            return len(backend.encode_batch_fast([text], add_special_tokens=False)[0])

    def data_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`data_ids`, and the character range of each token in the text."""
        with self.lock:
            found = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        return found.input_ids, [(int(a), int(b)) for a, b in found.offset_mapping]

    def turn_end(self) -> int | None:
        """The control token that the template puts right after a reply, if it puts one."""
        if not self.has_template:
            return None
        try:
            pieces = self.pieces((Message("user", "a"), Message("assistant", "b")), reply=False)
        except ModelError:
            return None
        after = self.template_ids(pieces[-1].text.lstrip()) if not pieces[-1].data else []
        return after[0] if after and after[0] in self._special else None

    def pieces(self, prompt: Prompt, *, reply: bool = True, tools: Tools = ()) -> list[Piece]:
        """Template and contents in order. An assistant message at the end is continued instead of opening a new turn."""
        if not prompt:
            raise ModelError("the prompt has no message", hint="give at least one user message")
        forms: Sequence[Callable[[Prompt], Prompt]] = (lambda p: p, without_system, lambda p: merged(without_system(p)))
        for change in forms:
            marks = Marks(self._controls)
            shaped = [_shown(message, marks) for message in change(prompt)]
            try:
                text = self._render(shaped, reply, [marks.masked(tool) for tool in tools])
            except Exception as error:  # a template refuses in its own words, through Jinja, with any class of error
                refused = error
                continue
            return _split(text, marks.contents)
        first = str(refused).splitlines()[0][:200]
        raise ModelError(f"the chat template refuses this prompt: {first}", hint="begin with a user message and let roles alternate")

    def _render(self, messages: list[dict[str, Any]], reply: bool, tools: list[Any]) -> str:
        last_is_reply = messages[-1]["role"] == "assistant"
        text: str = self._tokenizer.apply_chat_template(
            messages,
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=reply and not last_is_reply,
            continue_final_message=reply and last_is_reply,
        )
        return text

    def _ordinary(self, pieces: list[Piece]) -> list[int] | None:
        """Ids of the whole text tokenised at once, or None if content yields a control token."""
        text = "".join(p.text for p in pieces)
        with self.lock:
            found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        contents = _spans(pieces)
        at = 0
        for number, (start, end) in zip(found.input_ids, found.offset_mapping, strict=True):
            while at < len(contents) and contents[at][1] <= start:
                at += 1
            if number in self._special and at < len(contents) and end > contents[at][0]:
                return None
        ids: list[int] = found.input_ids
        return ids

    def _apart(self, pieces: list[Piece]) -> list[int]:
        parts = [self.data_ids(p.text) if p.data else self.template_ids(p.text) for p in pieces]
        return [number for part in parts for number in part]

    def template_ids(self, text: str) -> list[int]:
        """Token ids of template text, in which control tokens are meant."""
        with self.lock:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids


class Marks:
    """Placeholders that nobody can guess, and the contents they stand for."""

    def __init__(self, controls: Sequence[str]) -> None:
        self._controls = controls
        self.contents: dict[str, str] = {}

    def of(self, content: str) -> str:
        mark = secrets.token_hex(12)
        self.contents[mark] = content
        return f"{_PAD}{mark}{_PAD}"

    def masked(self, value: Any) -> Any:
        """A JSON value in which no string spells a control token."""
        if isinstance(value, str):
            spells = any(token in value for token in self._controls)
            return self.of(json.dumps(value, ensure_ascii=False)[1:-1]) if spells else value
        if isinstance(value, Mapping):
            return {self.masked(key): self.masked(inner) for key, inner in value.items()}
        return [self.masked(inner) for inner in value] if isinstance(value, list | tuple) else value


def _shown(message: Message, marks: Marks) -> dict[str, Any]:
    """A message as a template takes it, its content a placeholder. One that only calls has no content at all."""
    content = "" if message.calls and not message.content else marks.of(message.content)
    shown: dict[str, Any] = {"role": message.role, "content": content}
    if message.calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": marks.masked(call.given)}}
            for call in message.calls
        ]
    if message.answers is not None:
        shown |= {"name": message.answers.name, "tool_call_id": message.answers.id}
    return shown


def without_system(prompt: Prompt) -> Prompt:
    """System text at the head of the first user message, for templates that know no system role."""
    system = "\n\n".join(m.content for m in prompt if m.role == "system")
    rest = [m for m in prompt if m.role != "system"]
    if not system:
        return rest
    if rest and rest[0].role == "user":
        return [Message("user", f"{system}\n\n{rest[0].content}"), *rest[1:]]
    return [Message("user", system), *rest]


def merged(prompt: Prompt) -> Prompt:
    """Neighbours of the same role as one message, for templates that want roles to alternate."""
    found: list[Message] = []
    for message in prompt:
        if found and found[-1].role == message.role and message.role != "tool":
            calls = (*found[-1].calls, *message.calls)
            found[-1] = replace(message, content=f"{found[-1].content}\n\n{message.content}", calls=calls)
        else:
            found.append(message)
    return found


def _split(text: str, contents: dict[str, str]) -> list[Piece]:
    """Cut a rendering at its placeholders and put the contents there, stripped where the template stripped the placeholder."""
    marks = re.compile(f"({_PAD}?)({'|'.join(map(re.escape, contents))})({_PAD}?)") if contents else None
    pieces: list[Piece] = []
    at = 0
    for match in marks.finditer(text) if marks else ():
        content = contents[match[2]]
        content = content if match[1] else content.lstrip()
        content = content if match[3] else content.rstrip()
        pieces += [Piece(text[at : match.start()], False), Piece(content, True)]
        at = match.end()
    pieces.append(Piece(text[at:], False))
    return [p for p in pieces if p.text]


def _spans(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Character ranges of the contents in the joined text."""
    spans, at = [], 0
    for piece in pieces:
        if piece.data:
            spans.append((at, at + len(piece.text)))
        at += len(piece.text)
    return spans
