"""The agent of the benchmarks: one tool call of about 300 bytes in each turn, answered with about 300 bytes."""

from __future__ import annotations

import json
from collections.abc import Callable

from remanence import Agent, tool
from remanence.app import Options
from remanence.content import Text, ToolCall, Usage
from remanence.ports import ModelReply, ModelRequest, OnDelta

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


class Instant:
    """A model that follows the script at once, whole: what is measured is everything but the model."""

    def __init__(self, on_call: Callable[[], None] | None = None) -> None:
        self._on_call = on_call

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        if self._on_call is not None:
            self._on_call()
        return script(request)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return usage.total_tokens


def options(on_call: Callable[[], None] | None = None) -> Options:
    """A runtime on that model; `on_call` hears of every call."""
    return Options(model=Instant(on_call))
