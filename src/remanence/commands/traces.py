"""Traces of an erased text: how to recognise it later without keeping it.

A *print* is a keyed digest of a few words in a row. Whoever holds the prints of a text and the key can say whether some
bytes still contain a piece of it, and nothing about the text itself; without the key, not even that. So a receipt can
carry prints of what it erased, and the database's own files can be searched for them years later, page by page,
whatever table, index or free page the bytes lie in.

Words are compared as bytes, without the case of ASCII letters; escapes of JSON count as gaps. A piece with an id or a
digest in it is no print: it would be found elsewhere. Neither are very few words, such as "PIN 4711", for the same
reason; such a text is known where it stands alone between the quotation marks of a record's JSON (`framed_print`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec

from remanence.events import Event, skeleton

__all__ = ["Tracer", "file_chunks", "is_framed", "texts_of"]

WORDS = 4
"""How many words in a row make a print; of shorter texts, all of them."""
PRINTS_PER_TEXT = 8
CHARS_MIN = 12
"""What is shorter than this in all is said by everybody."""
CHUNK_BYTES = 4 << 20
OVERLAP_BYTES = 1_024
DIGEST_BYTES = 8
ERASED = "erased:"
"""What every pseudonym begins with."""

FRAMED_BYTES_MAX = 120
_FRAMED = re.compile(rb'(?<=[:,\[])"((?:[^"\\\x00-\x1f]|\\.){1,%d})"' % FRAMED_BYTES_MAX)
"""Values of JSON. Inside of one a quotation mark is escaped, so that none begins where another ends."""
_ESCAPE = re.compile(rb"\\+[nrtbf\"/]?")
_ID = re.compile(rb"[0-9a-f]{20,}$")
"""Ids and digests are no words of anybody: they stay where they name what was erased."""
_WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")


class Tracer:
    """Makes prints and finds them. `key` is at most 64 bytes, and secret."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def prints_of(self, text: str) -> tuple[str, ...]:
        """The prints of a text: a few, spread over it; none when it is too short to be known again."""
        words = _words(text.encode())
        size = min(WORDS, len(words))
        if sum(map(len, words)) < CHARS_MIN or not size:
            return ()
        starts = range(len(words) - size + 1)
        step = max(1, len(starts) // PRINTS_PER_TEXT)
        # With the word behind it: the beginning of an id (`sess` of `sess_01a2...`) is no word either, and stands in
        # the rows of others right behind their text.
        pieces = [words[start : start + size + 1] for start in starts[::step]]
        telling = [piece[:size] for piece in pieces if not any(map(_ID.match, piece))]
        telling = [piece for piece in telling if sum(map(len, piece)) >= CHARS_MIN]
        return tuple(dict.fromkeys(map(self._print, telling[:PRINTS_PER_TEXT])))

    def framed_print(self, text: str) -> str:
        """The print of a text as a whole value of JSON, for those that have no other; empty for a long one."""
        written = msgspec.json.encode(text)[1:-1]
        return self._framed(written) if 0 < len(written) <= FRAMED_BYTES_MAX else ""

    def find(self, prints: Collection[str], content: Iterable[bytes]) -> set[str]:
        """Which of these prints are somewhere in the content, given piece by piece."""
        sizes = sorted({int(one[0]) for one in prints})
        found: set[str] = set()
        for piece in content if sizes else ():
            words = _words(piece) if sizes[-1] else []
            if not sizes[0]:
                found.update(one for one in map(self._framed, set(_FRAMED.findall(piece))) if one in prints)
            for size in filter(None, sizes):
                made = (self._print(words[start : start + size]) for start in range(len(words) - size + 1))
                found.update(one for one in made if one in prints)
        return found

    def pseudonym(self, order: str, name: str) -> str:
        """What stands in the place of a name that an order erases. Only who has the key and the name can tell."""
        text = f"{order}\n{name}".encode()
        return f"{ERASED}{hashlib.blake2b(text, digest_size=DIGEST_BYTES, key=self._key).hexdigest()}"

    def _framed(self, written: bytes) -> str:
        return f"0{hashlib.blake2b(written, digest_size=DIGEST_BYTES, key=self._key).hexdigest()}"

    def _print(self, words: list[bytes]) -> str:
        digest = hashlib.blake2b(b" ".join(words), digest_size=DIGEST_BYTES, key=self._key)
        return f"{len(words)}{digest.hexdigest()}"


def is_framed(one: str) -> bool:
    """Whether a print is of a short text, which anybody may say."""
    return one.startswith("0")


def _words(content: bytes) -> list[bytes]:
    return _WORD.findall(_ESCAPE.sub(b" ", content).lower())


_held: dict[tuple[int, int], int] = {}
"""Descriptors of files that this process has open as a database, by device and inode."""


def file_chunks(path: Path, *, ours: bool = False) -> Iterator[bytes]:
    """The bytes of a file, in pieces that overlap. Blocks.

    `ours`: this process has it open as a database. Closing any descriptor of a file gives up every lock of the process
    on it, also those of SQLite: another process would take itself for the last one, and remove the write-ahead log
    under this one's feet. So the descriptor of such a file is kept until the file is gone.
    """
    descriptor = _hold(path) if ours else os.open(path, os.O_RDONLY)
    try:
        before, offset = b"", 0
        while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
            yield before + chunk
            before, offset = chunk[-OVERLAP_BYTES:], offset + len(chunk)
    finally:
        if not ours:
            os.close(descriptor)


def _hold(path: Path) -> int:
    """A descriptor of the file that is there now, opened once in the life of this process."""
    for key, descriptor in list(_held.items()):
        if not os.fstat(descriptor).st_nlink and _held.pop(key, None) is not None:
            os.close(descriptor)  # the file is gone: no other process can open it any more
    found = path.stat()
    key = (found.st_dev, found.st_ino)
    if key not in _held:
        _held[key] = os.open(path, os.O_RDONLY)
    return _held[key]


def texts_of(event: Event) -> list[str]:
    """Everything said in an event that erasing it takes away."""
    return list(_lost(msgspec.to_builtins(event), msgspec.to_builtins(skeleton(event))))


def _lost(whole: object, left: object) -> Iterator[str]:
    """The texts of `whole` that are not in the same place of `left`."""
    if isinstance(whole, str):
        if whole != left:
            yield whole
    elif isinstance(whole, dict):
        kept = cast("dict[str, object]", left) if isinstance(left, dict) else {}
        for name, value in cast("dict[str, object]", whole).items():
            yield from _lost(value, kept.get(name))
    elif isinstance(whole, list | tuple):
        rest = cast("Sequence[object]", left) if isinstance(left, list | tuple) else ()
        for index, value in enumerate(cast("Sequence[object]", whole)):
            yield from _lost(value, rest[index] if index < len(rest) else None)
