"""Words for full text in memory: lower case, accents folded, English stop words out, English stems.

The stored index has the same steps from LanceDB's analyser; stemming joins *running* and *runs*, and a text in another language
only loses the joining. Words of scripts written without spaces stay whole, so full text is weak there and vectors do the work.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any

WORD = re.compile(r"[^\W_]+")  # as LanceDB splits: snake_case is two words
LONGEST_WORD = 40
# Lucene's short English list: longer ones lose words that matter in a question ("who", "after").
STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or"}
    | {"such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with"}
)


def words(text: str) -> list[str]:
    """The words of a text as they are indexed and searched, in order."""
    return [stem for word in WORD.findall(folded(text)) if word not in STOP_WORDS and len(word) <= LONGEST_WORD for stem in (_stem(word),)]


def folded(text: str) -> str:
    """Lower case without accents."""
    low = text.lower()
    if low.isascii():
        return low
    return "".join(c for c in unicodedata.normalize("NFKD", low) if not unicodedata.combining(c))


@functools.lru_cache(maxsize=1 << 18)
def _stem(word: str) -> str:
    found: str = _stemmer().stemWord(word)
    return found


@functools.cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
