"""Text cut into words, as the published scorers of English and of Chinese do it."""

from __future__ import annotations

import functools
import string
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from baywindow.bench.metrics.match import normalised
from baywindow.errors import MissingExtraError
from baywindow.home import cache_dir

# What the published scorers of Chinese leave out: ASCII marks, full-width ones but the full stop, and these. Kept for comparability: the
# list has the closing mark of a title 》 and not the opening one, and neither 〈〉 nor the dot in a foreign name.
_WIDE = "".join(chr(ord(mark) + 0xFEE0) for mark in string.punctuation if mark != ".")
_MARKS = frozenset(string.punctuation + _WIDE + "｡。｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏")


def english_words(text: str) -> list[str]:
    """Words of SQuAD's normal form."""
    return normalised(text).split()


def chinese_plain(text: str) -> str:
    """Lower case without white space and without punctuation, ASCII or full-width."""
    return "".join(c for c in text.lower() if not c.isspace() and c not in _MARKS)


def chinese_words(text: str) -> list[str]:
    """Words by jieba's default dictionary, each in its plain form; those that were punctuation are left out."""
    return [plain for word in _jieba().cut(text) if (plain := chinese_plain(word))]


def best(score: Callable[[str, str], float], reply: str, golds: Sequence[str]) -> float:
    """The highest score over the accepted answers; 0 where none is given."""
    return max((float(score(reply, gold)) for gold in golds), default=0.0)


def first_line(reply: str) -> str:
    """What few-shot tasks keep of a reply: its first line that is not blank. A model that goes on with the next example is not punished."""
    return reply.lstrip("\r\n").split("\n")[0]


@functools.cache
def _jieba() -> Any:
    """jieba's tokenizer. Its dictionary is cached in Baywindow's own folder: the default is a file in the machine's shared temporary one,
    which anybody there could have written and which is read with ``marshal``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's own use of pkg_resources, where that is installed
        try:
            import jieba
        except ImportError:
            raise MissingExtraError.of("what cuts Chinese text into words (jieba)", "bench") from None
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(cache_dir("jieba"))
    tokenizer.initialize()
    return tokenizer
