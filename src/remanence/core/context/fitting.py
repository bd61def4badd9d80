"""Which window the next call sees: today's while it is under the budget; else with old results cleared, else cut.

Clearing and cutting both cost the whole prefix once, so both are done in one go and for a long time: clearing when it
brings the window well under the budget, a cut to about half of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from msgspec.structs import replace

from remanence.core.context.entries import TurnText
from remanence.core.context.reopening import reopens
from remanence.core.context.stubs import stub_of
from remanence.core.context.transcript import Transcript
from remanence.core.state import Session, Window
from remanence.spec import AgentSpec

__all__ = ["clearing_helps", "cut", "fit", "limit_of", "size_now", "window_now"]

CLEARED_SHARE: Final = 0.6
"""Clearing is worth its price when it brings the window down to this share of the budget."""
FRESH_SHARE: Final = 0.25
"""The newest results, up to this share of the budget, are not cleared."""


def limit_of(spec: AgentSpec) -> int:
    """The window budget, in tokens."""
    return spec.limits.window_tokens


def fit(transcript: Transcript, s: Session, spec: AgentSpec) -> Window:
    """The window of the next call."""
    limit = limit_of(spec)
    window = window_now(transcript, s)
    if not transcript.turns or size_now(transcript, spec, window) <= limit:
        return window
    cleared = _cleared(transcript, spec, window)
    if cleared != window and size_now(transcript, spec, cleared) <= limit * CLEARED_SHARE:
        return cleared
    kept = cut(transcript, spec, cleared, limit // 2)
    if size_now(transcript, spec, kept) <= limit:
        return kept
    return _cleared(transcript, spec, kept, unread_too=True)  # what came in one step does not fit by itself


def window_now(transcript: Transcript, s: Session) -> Window:
    """Today's window, starting at a turn that is there: a compaction may have taken the first ones."""
    turns, window = transcript.window_of(s), s.window
    if not turns:
        return window
    first, covered = turns[0], transcript.covered
    skipped = window.skipped if first.number == window.first_turn else 0
    if covered.first_turn == first.number:
        skipped = max(skipped, covered.skipped)
    return Window(first.number, first.from_position, skipped, window.cleared)


def size_now(transcript: Transcript, spec: AgentSpec, window: Window) -> int:
    """The tokens of everything that is sent with this window."""
    return round(transcript.scale * (transcript.fixed_tokens(spec) + transcript.tokens(window)))


def clearing_helps(transcript: Transcript, spec: AgentSpec, window: Window) -> bool:
    """Whether clearing old results would make enough room, without anything leaving the window."""
    cleared = _cleared(transcript, spec, window)
    return cleared != window and size_now(transcript, spec, cleared) <= limit_of(spec) * CLEARED_SHARE


def cut(transcript: Transcript, spec: AgentSpec, window: Window, size: int) -> Window:
    """The newest whole turns that fit into `size`, everything that is sent included; of the last one at least the
    newest step."""
    turns = transcript.turns
    size = round(size / transcript.scale)
    fixed = transcript.fixed_tokens(spec) + (transcript.summary.tokens if transcript.summary else 0)
    kept, first = fixed, len(turns) - 1
    for index in range(len(turns) - 1, -1, -1):
        kept += _size(turns[index], window.cleared)
        if kept > size and index < len(turns) - 1:
            break
        first = index
    turn = turns[first]
    skipped = _steps_to_skip(turn, size - fixed, window.cleared) if first == len(turns) - 1 else 0
    if turn.number == window.first_turn:
        skipped = max(skipped, window.skipped)
    return Window(turn.number, turn.from_position, skipped, window.cleared)


def _cleared(transcript: Transcript, spec: AgentSpec, window: Window, *, unread_too: bool = False) -> Window:
    """The same window with every result cleared that is not among the newest. Those that no call was sent yet are
    among them, however large they are: clearing one of these would only make the agent ask for it again."""
    if not reopens(spec):
        return window
    fresh, cleared, read = limit_of(spec) * FRESH_SHARE / transcript.scale, 0, unread_too
    for turn in reversed(transcript.turns):
        for entry in reversed(turn.entries):
            fresh -= entry.tokens
            read = read or entry.message.role == "assistant"
            if fresh < 0 and entry.position and read:
                cleared = max(cleared, entry.position)
    return replace(window, cleared=max(window.cleared, cleared))


def _size(turn: TurnText, cleared: int) -> int:
    if not cleared:
        return turn.tokens
    return sum(stub_of(entry, cleared).tokens for entry in turn.entries)


def _steps_to_skip(turn: TurnText, limit: int, cleared: int) -> int:
    """How many messages after the inputs to leave out: whole steps, oldest first, keeping at least the newest."""
    starts = [i for i, message in enumerate(turn.messages) if message.role == "assistant" and i >= turn.inputs]
    size = _size(turn, cleared)
    skipped = 0
    for start, following in pairwise(starts):
        if size <= limit:
            break
        left = turn.entries[start:following]
        size -= sum(stub_of(entry, cleared).tokens for entry in left if entry.message.role != "user")
        skipped = following - turn.inputs
    return skipped
