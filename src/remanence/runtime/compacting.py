"""Compaction as a part of a round: its intent leaves beside the turn, its outcome is taken in between two steps."""

from __future__ import annotations

from remanence.content import Usage, text_of
from remanence.core.context import (
    Transcript,
    compaction_due,
    instructions_of,
    lost_identifiers,
    offered,
    window_now,
)
from remanence.core.state import Session
from remanence.events import CompactionBegun, CompactionFailed, ContextCompacted
from remanence.runtime.rounds import Dispatch, Ground, Outcome, Round, worst_price

__all__ = ["SUMMARY_TOKENS", "begin_compaction", "take_summary"]

SUMMARY_TOKENS = 2_000
"""How long a summary may be at most."""


def begin_compaction(round_: Round, ground: Ground) -> None:
    """Ask the model for a summary when one is due. Nothing waits for it."""
    s = round_.state
    spec = offered(round_.text, s, ground.spec)
    if s.frozen is not None or s.pause is not None or s.deleted:
        return
    asked = compaction_due(round_.text, s, spec)
    if asked is None:
        return
    content = asked.content
    request_bound = len(text_of(content.messages[-1].parts).encode())
    bound = round_.text.input_tokens_bound(spec, content) + request_bound
    worst = Usage(bound, min(SUMMARY_TOKENS, spec.limits.output_tokens))
    price = worst_price(ground.model, spec.model, worst, spec.settings.service_tier or "")
    round_.unpriced |= price is None
    begun = CompactionBegun(
        f"compact_{s.head + 1}",
        spec.model,
        asked.through_turn,
        asked.window.first_turn,
        asked.window.from_position,
        round_.text.sent_digest(spec, content.digest),
        asked.skipped,
        asked.window.skipped,
        asked.window.cleared,
        s.compacted_at,
        s.shown_at,
        asked.keep,
        reserved_usd_micros=price or 0,
        reserved_tokens=worst.total_tokens,
        opens=spec is not ground.spec,
    )
    round_.take(begun)
    instructions = instructions_of(round_.text, spec)
    round_.dispatches.append(Dispatch(begun, messages=content.messages, instructions=instructions, spec=spec))


def take_summary(round_: Round, outcome: Outcome) -> bool:
    """Take in the outcome of a compaction; False while a model call runs, whose window must stay what it was."""
    s, event = round_.state, outcome.event
    if s.compacting is None or not isinstance(event, ContextCompacted | CompactionFailed):
        return True
    if event.call != s.compacting.call:
        return True
    if s.turn is not None and s.turn.model is not None and s.turn.model.running:
        return False
    round_.take(_judged(round_.text, s, event) if isinstance(event, ContextCompacted) else event)
    return True


def _judged(text: Transcript, s: Session, event: ContextCompacted) -> ContextCompacted | CompactionFailed:
    """The summary, or why it is thrown away: it was overtaken by a cut, or lost an identifier that is in use now."""
    window = window_now(text, s)
    if (event.through_turn + 1, event.skipped) <= (window.first_turn, window.skipped):
        return _thrown_away(event, "overtaken", "the window was cut before the summary was there")
    lost = lost_identifiers(text, s, event, text_of(event.summary))
    if lost:
        return _thrown_away(event, "identifiers", f"the summary left out {', '.join(lost)}")
    return event


def _thrown_away(event: ContextCompacted, kind: str, why: str) -> CompactionFailed:
    return CompactionFailed(event.call, kind, why, event.usage, event.cost_usd_micros, model=event.model)
