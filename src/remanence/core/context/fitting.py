"""Which window the next call sees: today's as long as it is under the budget, else one cut to about half of it."""

from __future__ import annotations

from itertools import pairwise

from remanence.core.context.entries import BYTES_PER_TOKEN, TurnText
from remanence.core.context.transcript import Transcript
from remanence.core.state import Session, Window
from remanence.spec import AgentSpec

__all__ = ["fit"]


def fit(transcript: Transcript, s: Session, spec: AgentSpec) -> Window:
    """The window of the next call: today's as long as it is under the budget, else cut to about half of it."""
    limit = spec.limits.window_tokens * BYTES_PER_TOKEN
    fixed = transcript.fixed_bytes(spec)
    turns = transcript.window_of(s)
    window = _window_at(turns, s.window)
    if not turns or fixed + transcript.size(window) <= limit:
        return window
    if transcript.summary is not None:
        fixed += transcript.summary.size
    kept, first = fixed, len(turns) - 1
    for index in range(len(turns) - 1, -1, -1):
        kept += turns[index].bytes
        if kept > limit // 2 and index < len(turns) - 1:
            break
        first = index
    turn = turns[first]
    skipped = _steps_to_skip(turn, limit // 2 - fixed) if first == len(turns) - 1 else 0
    return Window(turn.number, turn.from_position, skipped)


def _window_at(turns: list[TurnText], window: Window) -> Window:
    """The same window, starting at a turn that is there (a compaction may have taken the first ones)."""
    if not turns or turns[0].number == window.first_turn:
        return window if not turns else Window(turns[0].number, turns[0].from_position, window.skipped)
    return Window(turns[0].number, turns[0].from_position)


def _steps_to_skip(turn: TurnText, limit: int) -> int:
    """How many messages after the inputs to leave out: whole steps, oldest first, keeping at least the newest."""
    starts = [i for i, message in enumerate(turn.messages) if message.role == "assistant" and i >= turn.inputs]
    size = turn.bytes
    skipped = 0
    for start, following in pairwise(starts):
        if size <= limit:
            break
        size -= sum(entry.size for entry in turn.entries[start:following] if entry.message.role != "user")
        skipped = following - turn.inputs
    return skipped
