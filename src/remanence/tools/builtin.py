"""The tools that the runtime answers itself, to be given to an agent like any other: `tools=[ask_human, sleep_until]`.

What they mean is pure and lives in the core, which may not know this room; here are only their names.
"""

from __future__ import annotations

from typing import Final

from remanence.core.builtins import ASK_HUMAN, OPEN_RESULT, SLEEP_UNTIL
from remanence.spec import ToolSpec

__all__ = ["ask_human", "open_result", "sleep_until"]

ask_human: Final[ToolSpec] = ASK_HUMAN
"""`ask_human(question, options=[])`: the turn waits for a person's answer."""

sleep_until: Final[ToolSpec] = SLEEP_UNTIL
"""`sleep_until(when)` or `sleep_until(seconds=...)`: the turn waits for a moment, and costs nothing meanwhile."""

open_result: Final[ToolSpec] = OPEN_RESULT
"""`open_result(ref, query="", page=1)`: reads again what the window does not show whole any more."""
