"""Under which names the beginnings of a prompt are kept.

A name is a hash over everything that the state depends on: format, model, recipe, and all tokens, block after block. It is keyed with
the tenant's id, so equal texts of two tenants have nothing in common, and the time of a reply tells nobody what others have asked.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from importlib.metadata import version

from baywindow.models.prefixes import BLOCK_TOKENS

FORMAT = 1
SHARED = "shared"  # the key of all tenants, where the operator lets them share


def names_of(ids: Sequence[int], tenant: str, bound_to: Sequence[str]) -> list[tuple[int, str]]:
    """Lengths, and the name of everything up to there: the end of every whole block of ``ids``, and their end."""
    secret = hashlib.sha256(tenant.encode()).digest()
    said = "\0".join([f"baywindow {version('baywindow')} prefix {FORMAT}", *bound_to])
    name, names = hashlib.blake2b(said.encode(), key=secret).digest(), []
    for start in range(0, len(ids), BLOCK_TOKENS):
        block = ids[start : start + BLOCK_TOKENS]
        name = hashlib.blake2b(name + array("q", block).tobytes(), key=secret, digest_size=32).digest()
        names.append((start + len(block), name.hex()))
    return names
