"""The events that change what a model call sees: what was recalled, which blocks are shown, what was compacted.

What is shown is journaled by reference: a `Recalled` names the record in which the text stands, so that no text is
stored twice and an erased one is gone from every later prompt.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from remanence.content import Part, Usage
from remanence.events.fact import Fact

__all__ = ["BlocksShown", "CompactionBegun", "CompactionFailed", "ContextCompacted", "MemoryRecalled", "Recalled"]


class Recalled(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a memory, by reference: its text stands in the record at `position` of `session`.

    `untrusted` texts are shown as quoted data. `why` says in words for people why it came to mind.
    """

    memory: str
    version: int
    session: str
    position: int
    kind: Literal["episode", "note", "block"] = "note"
    untrusted: bool = False
    why: tuple[str, ...] = ()


class MemoryRecalled(Fact, frozen=True):
    """What came to mind before the first model call of a turn; it stays with that turn. Empty when nothing did.

    `note` says so when the memory could not be asked.
    """

    turn: int
    items: tuple[Recalled, ...] = ()
    note: str = ""


class BlocksShown(Fact, frozen=True):
    """The memory blocks that stand behind the instructions of every model call from here on; they replace the last."""

    items: tuple[Recalled, ...] = ()


class CompactionBegun(Fact, frozen=True):
    """Intent: a model call that summarises the oldest part of the window is about to leave.

    It covers the turns up to `through_turn`, and the first `skipped` messages after the inputs of the turn that
    follows. The window is named as in `ModelCalled`; `left_out` is what it had skipped. `keep` are the identifiers that
    the summary must hold. `opens` as in `ModelCalled`. `prompt` is the digest of everything that is sent.
    """

    call: str
    model: str
    through_turn: int
    first_turn: int
    window_from: int
    prompt: str
    skipped: int = 0
    left_out: int = 0
    cleared: int = 0
    compacted_at: int = 0
    shown_at: int = 0
    keep: tuple[str, ...] = ()
    attempt: int = 1
    reserved_usd_micros: int = 0
    reserved_tokens: int = 0
    opens: bool = False


class CompactionFailed(Fact, frozen=True):
    """Outcome: no summary. The window stays as it is until it is full, and is then cut without a model.

    `kind` is that of a failed model call, `lost` when the worker died in mid-call, or `identifiers` when the summary
    left out some that are still in use; it was thrown away, and `message` names them.
    """

    call: str
    kind: str
    message: str
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    billed_tokens: int = 0
    model: str = ""


class ContextCompacted(Fact, frozen=True):
    """The turns up to `through_turn` are represented by `summary` in later windows.

    So are the first `skipped` messages after the inputs of the turn that follows. `call` is the `CompactionBegun` it is
    the outcome of; without one, it was drawn from the conversation by rule, and nothing was spent.
    """

    through_turn: int
    summary: tuple[Part, ...]
    call: str = ""
    skipped: int = 0
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    model: str = ""
