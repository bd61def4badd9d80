"""The scripted model, with words to write a script in.

    model = Scripted([
        calls(call("find_order", order="42"), call("find_mail", order="42")),
        says("Order 42 is on its way."),
    ])

See `remanence.models.scripted` for what a script can do.
"""

from __future__ import annotations

from typing import Any

from remanence.errors import ModelErrorKind
from remanence.models.scripted import (
    Call,
    Dialogue,
    Fail,
    Script,
    Scripted,
    ScriptFunction,
    Step,
    last_result,
    last_user_text,
    load_script,
    step_of,
    unconfigured,
)

__all__ = [
    "Call",
    "Dialogue",
    "Fail",
    "Script",
    "ScriptFunction",
    "Scripted",
    "Step",
    "call",
    "calls",
    "dialogue",
    "fails",
    "last_result",
    "last_user_text",
    "load_script",
    "says",
    "stalls",
    "step_of",
    "unconfigured",
]


def call(tool: str, /, **arguments: Any) -> Call:
    """A tool call with these arguments."""
    return Call(tool, arguments)


def says(text: str, /, *made: Call, **fields: Any) -> Step:
    """A step that says `text`, and makes calls as well when there are any. `fields` are those of `Step`."""
    return Step(text=text, calls=made, **fields)


def calls(*made: Call, **fields: Any) -> Step:
    """A step that makes these calls side by side and says nothing."""
    return Step(calls=made, **fields)


def fails(step: Step, /, kind: ModelErrorKind = "server", times: int = 1, retry_after_s: float | None = None) -> Step:
    """`step`, failing `times` times first (0: for ever)."""
    failing = Fail(kind, times, retry_after_s)
    return Step(step.text, step.thinking, step.calls, step.usage, step.stop, fail=failing)


def stalls() -> Step:
    """A step that never answers: the call ends by cancel or by its time-out."""
    return Step(stall=True)


def dialogue(when: str, /, *steps: Step) -> Dialogue:
    """Steps that answer what matches the regular expression `when`."""
    return Dialogue(steps, when)
