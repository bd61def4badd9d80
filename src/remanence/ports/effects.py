"""What acts on the world outside: models and tools, and where the code behind a tool is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from remanence.content import ToolCall, Usage
from remanence.spec import ToolSpec
from remanence.values import ModelReply, ModelRequest, OnDelta, ToolCallContext, ToolOutcome

__all__ = ["Model", "Tool", "Toolbox"]


class Model(Protocol):
    """One way to reach models. Raises `ModelError`, nothing else; cancelling the task aborts the call."""

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply: ...

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        """What this usage costs in micro-USD (rounded up), or None when no price is known. `tier`: the service tier."""
        ...


class Tool(Protocol):
    """Something that can run calls of one tool. It never raises for a bad call: that is an outcome with `error`."""

    @property
    def spec(self) -> ToolSpec: ...

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome: ...

    async def reconcile(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        """What became of an effect: its outcome, `not_happened`, or None when the tool cannot tell. When it raises, or
        gives no answer in time, it is asked again later."""
        ...


class Toolbox(Protocol):
    """Where the runtime finds the code behind a tool."""

    def find(self, agent: str, tool: str) -> Tool | None: ...

    def remote(self, spec: ToolSpec) -> Tool | None:
        """A tool that its spec alone says how to reach: on an MCP server that this process may connect to."""
        ...

    def agents(self) -> Sequence[str]:
        """The agents whose Python functions this process has."""
        ...
