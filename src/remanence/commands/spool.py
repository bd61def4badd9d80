"""Journals on their way from one place to another: sequences of records that are read again each time they are gone
through, so that memory does not grow with the session."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import IO, Self, cast, overload

import msgspec

from remanence.ports import RawRecord

__all__ = ["Rows", "Spool"]

_LENGTH_BYTES = 8

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RawRecord)


class Rows(Sequence[RawRecord]):
    """`count` records that `read` gives, from the first on, each time it is called; the two ends are at hand."""

    def __init__(self, read: Callable[[], Iterator[RawRecord]], count: int, first: RawRecord, last: RawRecord) -> None:
        self._read = read
        self._count = count
        self._ends = {0: first, count - 1: last}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[RawRecord]:
        return self._read()

    @overload
    def __getitem__(self, index: int) -> RawRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RawRecord]: ...
    def __getitem__(self, index: int | slice) -> RawRecord | Sequence[RawRecord]:
        """Anything but the ends is looked for from the beginning."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        at = index + self._count if index < 0 else index
        if not 0 <= at < self._count:
            raise IndexError(index)
        return self._ends[at] if at in self._ends else next(islice(self, at, None))


class Spool:
    """A temporary file that takes records and gives them back in order. Use it as a context manager."""

    def __init__(self) -> None:
        self._file = cast("IO[bytes]", tempfile.TemporaryFile(prefix="remanence-spool-"))  # noqa: SIM115 - `__exit__`
        self._count = 0
        self._ends: list[RawRecord] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: Sequence[RawRecord]) -> None:
        """The next records, at least one."""
        for row in rows:
            encoded = _encoder.encode(row)
            self._file.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)
        self._count += len(rows)
        self._ends = [self._ends[0] if self._ends else rows[0], rows[-1]]

    def rows(self) -> Rows:
        """Everything added so far, which is at least one record. Two readers at once would disturb each other."""
        return Rows(self._read, self._count, *self._ends)

    def _read(self) -> Iterator[RawRecord]:
        self._file.seek(0)
        while length := self._file.read(_LENGTH_BYTES):
            yield _decoder.decode(self._file.read(int.from_bytes(length, "big")))
