"""From a text to the words it is found by.

A text is cut where Unicode says a word ends; apostrophes keep a word together in English ("don't") and end a prefix in
French ("l'ami"). A text of Chinese, Japanese or Korean has no spaces, so each two characters in a row are a word. Then
function words are left out, the rest is brought to its stem by the Snowball rules of the text's language, and accents
and case are folded away.

Which language a text is in is told by its function words. A question is short and often has none, so its words are
looked for by the stems of both languages: what was indexed by either is found.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from remanence.core.memory.stopwords import FUNCTION, LIGHT, TELLING, Language

if TYPE_CHECKING:
    import snowballstemmer

__all__ = ["Asked", "Indexed", "asked", "fold", "indexed", "language_of", "name_words"]

WORD_CHARACTERS_MAX = 64
"""Longer ones are no words (keys, encoded data); they are found by their beginning."""
LIGHT_WEIGHT = 0.3
_NAMES_REMEMBERED = 4_096

_IDEOGRAMS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_TOKEN = re.compile(f"[{_IDEOGRAMS}]+|[^\\W_{_IDEOGRAMS}]+(?:'[^\\W_{_IDEOGRAMS}]+)*")
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "'" else 32 for code in range(128)).ljust(
    256
)
"""What each byte of plain text becomes in front of `split`."""
_IDEOGRAM = re.compile(f"[{_IDEOGRAMS}]")
_ASKS = re.compile(r"[?\uff1f][\s\"')]*(?:\[[^\[\]]*\]\s*)?$")
"""A question at the end, perhaps with a remark in brackets after it, such as what a picture shows."""
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\uff07": "'"})
_ELIDED = re.compile(r"(?:[ldjmtscn]|qu|jusqu|lorsqu|puisqu|quoiqu)'(.+)")
_MARKS = re.compile("[\u0300-\u036f]")
_ACCENTED = re.compile("[àâçèéêëîïôùûœ]")


class Indexed(msgspec.Struct, frozen=True):
    """A text as the index has it: how often each word occurs, how many words it has, whether it ends in a question."""

    words: dict[str, int]
    length: int
    asks: bool


class Asked(msgspec.Struct, frozen=True):
    """One word of a question: as it was typed, the stems it may be indexed by, and how much it counts."""

    typed: str
    stems: tuple[str, ...]
    weight: float


def indexed(text: str) -> Indexed:
    """The words of a memory's text."""
    tokens = _tokens(text)
    stems = [stem for stem in map(_KEPT[language_of(tokens)].__getitem__, tokens) if stem is not None]
    words = dict.fromkeys(stems, 1)
    if len(words) < len(stems):
        words = Counter(stems)
    asks = ("?" in text or "\uff1f" in text) and _ASKS.search(text) is not None
    return Indexed(words, len(stems), asks)


def asked(text: str) -> tuple[Asked, ...]:
    """The words of a question, each once, in the order they stand in."""
    tokens = _tokens(text)
    language = language_of(tokens)
    found: dict[tuple[str, ...], Asked] = {}
    for token in tokens:
        if token in FUNCTION[language]:
            continue
        stems = tuple(dict.fromkeys((_english(token), _french(token))))
        weight = LIGHT_WEIGHT if token in LIGHT[language] else 1.0
        found.setdefault(stems, Asked(token, stems, weight))
    return tuple(found.values())


@lru_cache(_NAMES_REMEMBERED)
def name_words(name: str) -> tuple[str, ...]:
    """The words a speaker may be called by in a question."""
    return tuple(dict.fromkeys(stem for word in _tokens(name) for stem in (_english(word), _french(word))))


def language_of(tokens: list[str]) -> Language:
    """French when its function words are more than those of English; else English, whose stemmer spares the others."""
    if not TELLING["fr"].isdisjoint(tokens):
        french = len(TELLING["fr"].intersection(tokens))
        return "fr" if french > len(TELLING["en"].intersection(tokens)) else "en"
    joined = "".join(tokens)
    return "fr" if not joined.isascii() and len(_ACCENTED.findall(joined)) > len(tokens) // 4 else "en"


def fold(text: str) -> str:
    """Without case and accents: what is left when only the letters count."""
    if text.isascii():
        return text.lower()
    # Twice: a compatibility form may stand for capital letters, and a folded letter for a letter and a mark.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = _MARKS.sub("", folded)
    return unicodedata.normalize("NFC", kept).replace("œ", "oe").replace("æ", "ae")


def _tokens(text: str) -> list[str]:
    """Words in lower case, with their accents; pairs of characters where there are no spaces."""
    if text.isascii():
        # The same as by the pattern, and five times as fast.
        found = text.replace("''", " ").encode().translate(_ASCII).decode().split()
    else:
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
        found = [piece for token in _TOKEN.findall(text) for piece in _pieces(token)]
    if "'" in text:
        found = [token for each in found if (token := _without_prefix(each) if "'" in each else each)]
    return found


def _pieces(token: str) -> list[str]:
    if len(token) < 3 or _IDEOGRAM.match(token) is None:
        return [token]
    return [token[at : at + 2] for at in range(len(token) - 1)]


@lru_cache(_NAMES_REMEMBERED)
def _without_prefix(token: str) -> str:
    """A word without apostrophes around it, and without a French prefix that ends in one; perhaps nothing is left."""
    token = token.strip("'")
    elided = _ELIDED.fullmatch(token)
    return token if elided is None or token in FUNCTION["en"] else elided[1]


# --- stems ------------------------------------------------------------------------------------------------------------

_STEMS_REMEMBERED = 1 << 16


_own = threading.local()
"""A stemmer of the library keeps the word it works on in itself: each thread has its own."""


def _stem(language: str, word: str) -> str:
    stemmer: snowballstemmer.Stemmer | None = getattr(_own, language, None)
    if stemmer is None:
        # Here, not above: it loads every language it has, for which whoever stems nothing need not wait.
        import snowballstemmer

        stemmer = snowballstemmer.stemmer(language)
        setattr(_own, language, stemmer)
    return stemmer.stemWord(word)


@lru_cache(_STEMS_REMEMBERED)
def _english(word: str) -> str:
    return _stem("english", fold(word[:WORD_CHARACTERS_MAX]))


@lru_cache(_STEMS_REMEMBERED)
def _french(word: str) -> str:
    # The rules of French need its accents; what is left of an ending by them ("brûlée", "brulee") goes afterwards.
    stem = fold(_stem("french", word[:WORD_CHARACTERS_MAX]))
    return stem.rstrip("e") if len(stem) > 3 else stem


class _Kept(dict[str, str | None]):
    """The stems of words as they are indexed, None for function words: a look at a dictionary for each word."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._function = FUNCTION[language]
        self._stem = {"en": _english, "fr": _french}[language]

    def __missing__(self, token: str) -> str | None:
        stem = None if token in self._function else self._stem(token)
        if len(self) >= _STEMS_REMEMBERED:
            self.clear()  # those that are frequent are back soon; whoever reads meanwhile finds nothing and asks here
        self[token] = stem
        return stem


_KEPT: dict[Language, _Kept] = {"en": _Kept("en"), "fr": _Kept("fr")}
