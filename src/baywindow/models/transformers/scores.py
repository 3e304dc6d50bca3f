"""What a reply's tokens are told to have scored: of the whole reply, and of each piece of it as it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baywindow.models.base import ScoredText, TokenScore
from baywindow.models.stopping import BROKEN
from baywindow.models.transformers.choosing import Pick

Decode = Callable[[Sequence[int]], str]
_CONTEXT = 8  # tokens before one that its text may depend on: leading spaces, bytes of a character


def scores_of(picks: Sequence[Pick], decode: Decode, text: str) -> tuple[TokenScore, ...]:
    """Scores of the tokens that a reply's text was made of: blanks before it, what ended it and a stop string are none of it.

    A token inside a character is told as a replacement sign, and the one that ends the character as the character.
    """
    ids = [pick.token for pick in picks]
    start = max(0, decode(ids).find(text))
    found: list[TokenScore] = []
    said = ""
    for at, pick in enumerate(picks):
        if len(said) >= start + len(text) and not said.endswith(BROKEN):
            break
        said = decode(ids[: at + 1])
        if len(said) > start:
            found.append(_score(decode, ids[max(0, at - _CONTEXT) : at], pick))
    return tuple(found)


class AsSaid:
    """The scores of one reply's tokens, each with the piece of text that ends it; all together are the first of `scores_of`.

    A token inside a character waits for the one that ends it, and one of whose text a part is held back (it may begin a stop string)
    for the rest. ``picks`` grows while the reply does.
    """

    def __init__(self, picks: Sequence[Pick], decode: Decode) -> None:
        self._picks, self._decode = picks, decode
        self._told = 0  # tokens, those that are none of the text among them
        self._shown = 0  # characters that they decode to, blanks before the text among them
        self._end = 0  # characters up to the end of what has been said

    def piece(self, text: str) -> str:
        """The text that is said now, not empty, with the scores that go with it."""
        ids = [pick.token for pick in self._picks]
        if not self._end:
            self._skip_blanks(ids, text)
        self._end += len(text)
        found: list[TokenScore] = []
        for at in range(self._told, len(ids)):
            said = self._decode(ids[: at + 1])
            if said.endswith(BROKEN):
                continue
            if len(said) > self._end:
                break
            if len(said) > self._shown:
                found += [_score(self._decode, ids[max(0, i - _CONTEXT) : i], self._picks[i]) for i in range(self._told, at + 1)]
                self._told, self._shown = at + 1, len(said)
        return ScoredText(text, found)

    def _skip_blanks(self, ids: Sequence[int], text: str) -> None:
        """Those before the first text that is said are none of the reply."""
        start = max(0, self._decode(ids).find(text))
        while len(self._decode(ids[: self._told + 1])) <= start and self._told < len(ids):
            self._told += 1
        self._end = self._shown = start


def _score(decode: Decode, before: Sequence[int], pick: Pick) -> TokenScore:
    new, *others = (_added(decode, before, token) for token in (pick.token, *(token for token, _ in pick.top)))
    return TokenScore(new, pick.logprob, tuple((other, logprob) for other, (_, logprob) in zip(others, pick.top, strict=True)))


def _added(decode: Decode, before: Sequence[int], token: int) -> str:
    """What a token adds to the text; where it ends a character that others began, the character."""
    shown, now = decode(before), decode([*before, token])
    return now[len(shown) if now.startswith(shown) and len(now) > len(shown) else len(shown.rstrip(BROKEN)) :]
