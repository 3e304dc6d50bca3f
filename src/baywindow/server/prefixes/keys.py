"""Under which names the beginnings of a prompt are kept, and where its stable part ends.

A name is a hash over everything that the state depends on: format, model, recipe, and all tokens, block after block. It is keyed with
the tenant's id, so equal texts of two tenants have nothing in common, and the time of a reply tells nobody what others have asked.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from baywindow.models.base import Prompt
from baywindow.models.prefixes import BLOCK_TOKENS

FORMAT = 1
SHARED = "shared"  # the key of all tenants, where the operator lets them share


def names_of(ids: Sequence[int], tenant: str, bound_to: Sequence[str]) -> list[str]:
    """A name for every whole block of ``ids``, of everything up to its end."""
    secret = hashlib.sha256(tenant.encode()).digest()
    said = "\0".join([f"baywindow {version('baywindow')} prefix {FORMAT}", *bound_to])
    name, names = hashlib.blake2b(said.encode(), key=secret).digest(), []
    for start in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = array("q", ids[start : start + BLOCK_TOKENS]).tobytes()
        name = hashlib.blake2b(name + block, key=secret, digest_size=32).digest()
        names.append(name.hex())
    return names


def stable_part(prompt: Prompt | str) -> Prompt | str:
    """The prompt without its question: what the next question is likely to be asked of again. Of a text, and of the last message of a
    user, the last paragraph is the question; a single paragraph is all question."""
    if isinstance(prompt, str):
        return _before_question(prompt)
    last = max((i for i, message in enumerate(prompt) if message.role == "user"), default=len(prompt) - 1)
    return [*prompt[:last], replace(prompt[last], content=_before_question(prompt[last].content))]


def _before_question(text: str) -> str:
    """Up to the last break between paragraphs that has text behind it."""
    end = text.rstrip().rfind("\n\n")
    return text[: end + 2] if end >= 0 else ""
