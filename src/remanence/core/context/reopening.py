"""Which agents may open again what their window does not show whole, and from when on they are given the tool for it.

An agent with `open_result` among its tools has it from its first call on. Another one with tools is given it as soon as
there is something to open: an old result that was cleared, a result or an input that was cut, turns that left behind a
summary. That changes the beginning of every prompt, but mostly at a moment when the window changes anyway; from then on
the session keeps it (`ModelCalled.opens`). `Limits(reopening="off")` forbids it: what is bulky is then shown whole, or
leaves the window with its turn.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from remanence.content import Part, Text
from remanence.core.builtins import OPEN_RESULT
from remanence.core.context.transcript import Transcript
from remanence.core.state import Session, Window
from remanence.spec import AgentSpec

__all__ = ["offered", "reopens", "shown_bytes", "with_reopening"]

BYTES_PER_TOKEN: Final = 3
"""An input of more bytes than this for each token of the window would fill it alone."""


def reopens(spec: AgentSpec) -> bool:
    """Whether an agent may open things again: it has the tool for it, or is given it when there is something to."""
    return spec.tool(OPEN_RESULT.name) is not None or (bool(spec.tools) and spec.limits.reopening == "auto")


def with_reopening(spec: AgentSpec) -> AgentSpec:
    """The spec with the tool."""
    return spec if spec.tool(OPEN_RESULT.name) is not None else replace(spec, tools=(*spec.tools, OPEN_RESULT))


def offered(transcript: Transcript, s: Session, spec: AgentSpec, window: Window | None = None) -> AgentSpec:
    """The spec as the session has it now, or, with the `window` of the next call, as that call is sent it."""
    needed = s.opens or (window is not None and (window.cleared > 0 or transcript.cuts))
    if not needed or not reopens(spec):
        return spec
    before, made = transcript.reopening or (None, spec)
    if before is not spec:
        made = with_reopening(spec)
        transcript.reopening = (spec, made)
    return made


def shown_bytes(spec: AgentSpec, parts: tuple[Part, ...]) -> int:
    """How many bytes of an input its model is shown (0: all). Of an agent that has the tool as much as of a result; of
    one that would be given it, what leaves room in the window for anything else."""
    limit = spec.limits.tool_result_bytes
    if spec.tool(OPEN_RESULT.name) is None:
        limit = max(limit, spec.limits.window_tokens * BYTES_PER_TOKEN)
    size = sum(len(part.text.encode()) for part in parts if isinstance(part, Text))
    return limit if size > limit and reopens(spec) else 0
