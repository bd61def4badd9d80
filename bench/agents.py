"""The agent of the benchmarks: one tool call of about 300 bytes in each turn, answered with about 300 bytes."""

from __future__ import annotations

import json
from collections.abc import Callable

from remanence import Agent, tool
from remanence.app import Options
from remanence.content import Text, ToolCall, Usage
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

SAID = "Order 42 arrived broken. " * 4
_ARGUMENTS = json.dumps({"note": "n" * 280})
_FOUND = "f" * 300
_ASK = ModelReply((ToolCall("", "find", _ARGUMENTS),), Usage(900, 80), 42, "tool_calls")
_ANSWER = ModelReply((Text("Here is what I found: it will be replaced, free of charge."),), Usage(990, 20), 42)


@tool(replay="safe")
async def find(note: str) -> str:
    """Find something."""
    return _FOUND


AGENT = Agent("bench", model="scripted", instructions="Answer.", tools=[find])


def script(request: ModelRequest) -> ModelReply:
    """Ask for the tool when the user spoke last, answer when the tool did."""
    return _ASK if request.messages[-1].role == "user" else _ANSWER


def options(on_call: Callable[[], None] | None = None) -> Options:
    """A runtime whose model is the script; `on_call` hears of every model call."""

    def heard(request: ModelRequest) -> ModelReply:
        if on_call is not None:
            on_call()
        return script(request)

    return Options(model=Scripted(heard))
