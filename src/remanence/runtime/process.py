"""What a process that does nothing but serve sessions tells the interpreter and the kernel. A library leaves these
alone.

A server that has a turn every few milliseconds finds its caches cold each time: what a turn takes is mostly waiting
for memory. Two things make that less. The garbage collector, which looks through everything that lives, is told to pass
over what existed at the beginning. And the memory of that is moved into large pages, where the kernel has them (Linux
since 6.1): the processor finds the address of 2 MiB in one step instead of 512.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator
from pathlib import Path

import structlog

__all__ = ["ranges_of_values", "settle"]

log = structlog.get_logger("remanence.process")

_YOUNG, _MIDDLE, _OLD = 20_000, 20, 50
_LARGE_PAGE = 2 * 1024 * 1024
_MADV_COLLAPSE = 25


def settle() -> None:
    """Call once everything is imported and open: what exists now is never looked at again by the garbage collector.

    A turn makes a few hundred short-lived values and next to no cycles; with the collector's own thresholds it looks
    through them, and through every module, many times a second. This is worth about a tenth of the processor time.
    """
    gc.freeze()  # nothing is collected first: a start leaves ten values behind, and to find them takes 40 ms
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    if sys.platform == "linux":
        _use_large_pages()


def _use_large_pages() -> None:
    """Ask for large pages wherever values live. It is advice: a kernel that has none refuses, and nothing changes."""
    try:
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, end in ranges_of_values(Path("/proc/self/maps").read_text(encoding="utf-8")):
            advise(start, end - start, _MADV_COLLAPSE)
    except (OSError, AttributeError) as error:
        log.debug("the memory stays in small pages", error=repr(error))


def ranges_of_values(maps: str) -> Generator[tuple[int, int]]:
    """The ranges of memory in `maps` (the form of `/proc/self/maps`) that belong to no file and can be written, from
    the first large page in each to the last."""
    for line in maps.splitlines():
        where, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights.startswith("rw") and (not name or name[0] == "[heap]"):
            start, end = (int(address, 16) for address in where.split("-"))
            start, end = -(-start // _LARGE_PAGE) * _LARGE_PAGE, end // _LARGE_PAGE * _LARGE_PAGE
            if start < end:
                yield start, end
