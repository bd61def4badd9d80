"""Tools that the client runs: the model asks, the call goes out over the wire, the client sends the result back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remanence.spec import Replay, ToolSpec

__all__ = ["client_tool"]


def client_tool(
    name: str, parameters: Mapping[str, Any] | None = None, description: str = "", *, replay: Replay = "never"
) -> ToolSpec:
    """A tool without code here. `parameters` is a JSON Schema of type object; none: it takes no arguments.

    The agent it is given to checks it, and raises `InvalidSpec` when it cannot mean what it says.
    """
    schema: dict[str, Any] = dict(parameters) if parameters else {"properties": {}, "additionalProperties": False}
    return ToolSpec(name, description, {"type": "object", **schema}, kind="client", replay=replay)
