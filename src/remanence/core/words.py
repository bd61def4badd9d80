"""Words: what a text is found by, and where in it they stand.

A word is a run of letters and digits, without case, accents and compatibility forms (`Café` is `cafe`, `ﬁ` is `fi`).
Scripts that put no space between words give every pair of neighbouring characters, and the last one alone, so that any
stretch of two characters or more is found. The databases are given finished words and compare nothing but bytes, so the
same search finds the same sessions on each of them.

A search is words that must all be there; the last one may be the beginning of a word while it is being typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice

__all__ = ["excerpt", "scope_words", "wanted", "words_of"]

WORD_CHARS_MAX = 64
"""What is longer is no word (a key, a picture in base64) and is cut: its beginning can be found."""
LOOKED_AT_MAX = 100_000
"""A text without spaces may be megabytes of one run: so many of its pairs, or words, are looked at, and no more."""
SEARCH_WORDS_MAX = 12
PREFIX_CHARS_MIN = 2
"""One letter begins too many words to say anything."""

_NEAR_CHARS = 20_000

_RUN = re.compile(r"[^\W_]+(?:[\u0300-\u036f]+[^\W_]*)*")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\U00020000-\U0003ffff]+")
_SCOPES = "\ue000\ue001\ue002"
"""What stands in front of such a name: no word of a text holds a private character."""


def words_of(text: str, limit: int) -> tuple[str, ...]:
    """The first `limit` different words of a text, in the order they first appear."""
    found: dict[str, None] = {}
    # The same run again says nothing new, and long texts repeat.
    every = (word for run in dict.fromkeys(_RUN.findall(text)) for word, _, _ in _spans(run))
    for word in islice(every, LOOKED_AT_MAX):
        found[word] = None
        if len(found) >= limit:
            break
    return tuple(found)


def scope_words(project: str | None, agent: str | None, user: str | None) -> list[str]:
    """Words that every record of a project, of an agent and of a user holds, and no text does; of those given."""
    given = zip(_SCOPES, (project, agent, user), strict=True)
    return [mark + name.encode(errors="surrogatepass").hex() for mark, name in given if name is not None]


def wanted(search: str) -> tuple[tuple[str, ...], str]:
    """What a search asks for: the words that must be there, and the beginning of one more (empty: none).

    The last word is a beginning unless something follows it, such as a space.
    """
    words = list(dict.fromkeys(word for word, _, _ in _spans(search, ends=False)))[:SEARCH_WORDS_MAX]
    if not words or not search[-1].isalnum() or len(words[-1]) < PREFIX_CHARS_MIN:
        last = words[-1] if words and _DENSE.fullmatch(words[-1]) and len(words[-1]) == 1 else ""
    else:
        last = "" if _DENSE.fullmatch(words[-1]) else words[-1]
    return tuple(word for word in words if word != last), last


def excerpt(text: str, words: Sequence[str], prefix: str, chars: int) -> list[tuple[str, bool]]:
    """About `chars` characters of a text around the first word that fits, as pieces; those that fit are marked True."""
    if len(text) > _NEAR_CHARS:
        text = _near(text, [*words, prefix] if prefix else words)
    marks = [(start, end) for word, start, end in _spans(text) if _fits(word, words, prefix)]
    first = max(0, marks[0][0] - chars // 3) if marks else 0
    first = text.find(" ", first, marks[0][0]) + 1 or first if first else 0
    last = min(len(text), first + chars)
    pieces: list[tuple[str, bool]] = [("… ", False)] if first else []
    at = first
    for start, end in marks:
        if start < at or end > last:
            continue
        pieces += [(text[at:start], False), (text[start:end], True)]
        at = end
    pieces += [(text[at:last], False), ("…" if last < len(text) else "", False)]
    return [piece for piece in pieces if piece[0]]


def _near(text: str, words: Sequence[str]) -> str:
    """A stretch of a long text around the first place that may fit, or its beginning: looking closely takes time."""
    lower = text.lower()
    first = min((place for word in words if (place := lower.find(word)) >= 0), default=0)
    start = max(0, first - _NEAR_CHARS // 4)
    return text[start : start + _NEAR_CHARS]


def _fits(word: str, words: Sequence[str], prefix: str) -> bool:
    return word in words or (prefix != "" and word.startswith(prefix))


def _spans(text: str, *, ends: bool = True) -> Iterator[tuple[str, int, int]]:
    """Every word with the stretch of the text it was made from. `ends`: with the last character of a dense run."""
    for run in _RUN.finditer(text):
        start = run.start()
        at = 0
        for dense in _DENSE.finditer(run[0]):
            if dense.start() > at:
                yield from _word(run[0][at : dense.start()], start + at)
            last = dense.end() if ends or len(dense[0]) == 1 else dense.end() - 1
            for place in range(dense.start(), last):
                pair = run[0][place : min(place + 2, dense.end())]
                yield from _word(pair, start + place)
            at = dense.end()
        if at < len(run[0]):
            yield from _word(run[0][at:], start + at)


def _word(run: str, start: int) -> Iterator[tuple[str, int, int]]:
    if run.isascii():
        yield run.lower()[:WORD_CHARS_MAX], start, start + len(run)
        return
    loose = unicodedata.normalize("NFKD", run.casefold())
    bare = "".join(char for char in loose if not unicodedata.combining(char))
    for piece in _RUN.findall(unicodedata.normalize("NFKC", bare)):
        yield piece[:WORD_CHARS_MAX], start, start + len(run)
