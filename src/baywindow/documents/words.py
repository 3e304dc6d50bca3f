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
# Function words, question words and auxiliaries: a question is full of them, and a passage is not better for holding "what" or "did".
# The short list of most engines keeps them; measured in notes/index.md.
STOP_WORDS = frozenset(
    {"i", "me", "my", "myself", "we", "our", "ours", "you", "your", "yours", "he", "him", "his", "himself", "she", "her", "hers"}
    | {"herself", "it", "its", "itself", "they", "them", "their", "theirs", "what", "which", "who", "whom", "whose", "this", "that"}
    | {"these", "those", "am", "is", "are", "was", "were", "be", "been", "being", "have", "has", "had", "having", "do", "does", "did"}
    | {"doing", "a", "an", "the", "and", "but", "if", "or", "because", "as", "until", "while", "of", "at", "by", "for", "with", "about"}
    | {"against", "between", "into", "through", "during", "before", "after", "above", "below", "to", "from", "up", "down", "in", "out"}
    | {"on", "off", "over", "under", "again", "further", "then", "once", "here", "there", "when", "where", "why", "how", "all", "any"}
    | {"both", "each", "few", "more", "most", "other", "some", "such", "no", "nor", "not", "only", "own", "same", "so", "than", "too"}
    | {"very", "can", "will", "would", "could", "should", "just", "now", "s", "t"}
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
