"""The prompt of the next call, and of any past one."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from remanence.content import Message
from remanence.core.context.compaction import summary_prompt
from remanence.core.context.fitting import fit
from remanence.core.context.recall import Known
from remanence.core.context.reopening import with_reopening
from remanence.core.context.transcript import Content, Transcript
from remanence.core.state import Session, Window
from remanence.events import CompactionBegun, ModelCalled, Recorded
from remanence.spec import AgentSpec

__all__ = ["LAYOUT", "Prompt", "Rebuilt", "instructions_of", "prompt_of", "rebuild_prompt"]

LAYOUT = 1
"""The rules by which prompts are put together now; 0 was before blocks, recalled memories and cleared results."""


class Prompt(msgspec.Struct, frozen=True):
    """What one call is sent. `digest` proves the messages, `sent` everything; `input_tokens_bound` is what budgets set
    aside."""

    messages: tuple[Message, ...]
    window: Window
    digest: str
    input_tokens_bound: int
    instructions: str = ""
    sent: str = ""


class Rebuilt(msgspec.Struct, frozen=True):
    """What a past call was sent. `exact` when its digest is the one that was journaled with it."""

    messages: tuple[Message, ...]
    exact: bool
    instructions: str = ""


def instructions_of(transcript: Transcript, spec: AgentSpec) -> str:
    """The instructions of a call: the agent's own, and the memory blocks in view behind them."""
    blocks = transcript.blocks_text() if transcript.blocks else ""
    return "\n\n".join(text for text in (spec.instructions, blocks) if text)


def prompt_of(transcript: Transcript, s: Session, spec: AgentSpec, window: Window | None = None) -> Prompt:
    """The prompt of the next model call, with this window or the one that fits."""
    window = window or fit(transcript, s, spec)
    content = transcript.messages(window)
    return Prompt(
        content.messages,
        window,
        content.digest,
        transcript.input_tokens_bound(spec, content),
        instructions_of(transcript, spec),
        transcript.sent_digest(spec, content.digest),
    )


def rebuild_prompt(
    records: Iterable[Recorded],
    called: ModelCalled | CompactionBegun,
    spec: AgentSpec | None = None,
    known: Known | None = None,
) -> Rebuilt:
    """What a past call was sent, from the journal.

    `records` begin at `called.window_from`, or at `called.compacted_at` or `called.shown_at` when those are earlier
    (the records between need not be there; any earlier beginning will do too), and may go on after the call. `spec` is
    the version the session was pinned to; without it only a `layout` of 0 can be proved. `known` are the texts behind
    the references. The digest differs after a redaction in the window.
    """
    text = Transcript(known)
    for record in records:
        event = record.event
        if isinstance(event, type(called)) and (event.call, event.attempt) == (called.call, called.attempt):
            break
        text.add(record)
    content = _content(text, called)
    if isinstance(called, ModelCalled) and called.layout == 0:
        return Rebuilt(content.messages, content.digest == called.prompt, spec.instructions if spec else "")
    if spec is None:
        return Rebuilt(content.messages, exact=False)
    spec = with_reopening(spec) if called.opens else spec
    exact = text.sent_digest(spec, content.digest) == called.prompt
    return Rebuilt(content.messages, exact, instructions_of(text, spec))


def _content(text: Transcript, called: ModelCalled | CompactionBegun) -> Content:
    if isinstance(called, ModelCalled):
        return text.messages(Window(called.first_turn, called.window_from, called.skipped, called.cleared))
    window = Window(called.first_turn, called.window_from, called.left_out, called.cleared)
    return summary_prompt(text, window, called.through_turn, called.skipped, called.keep)
