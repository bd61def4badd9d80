"""The tour on a model behind HTTP: the same scenes, in this process and in the workers it kills, on a real connection.

The server speaks the Chat Completions format and answers what the script would, so the claims that must hold with any
model are checked over the same path that a provider's model takes.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from remanence.content import Message, Part, Text, ToolCall, ToolResult, text_of
from remanence.demo import script, tour
from remanence.demo.stage import Stage
from remanence.demo.theatre import Theatre
from remanence.models.configuration import ModelConfig
from remanence.ports import ModelRequest
from remanence.spec import ModelSettings
from remanence.testing.wire import Answer, WireRequest, WireServer
from remanence.testing.wire_formats import WireCall


def answer(request: WireRequest) -> Answer:
    """What the script says to the window that arrived."""
    names: dict[str, str] = {}
    window = tuple(message_of(message, names) for message in request.body["messages"] if message["role"] != "system")
    spoken = script.reply(ModelRequest("m", "", window, (), ModelSettings(), 500, 60.0, "s:1:model_1_1"))
    calls = [part for part in spoken.parts if isinstance(part, ToolCall)]
    wire_calls = tuple(WireCall(call.call, call.name, call.arguments) for call in calls)
    return Answer(text=text_of(spoken.parts), calls=wire_calls)


def message_of(message: dict[str, Any], names: dict[str, str]) -> Message:
    match message["role"]:
        case "user":
            return Message("user", (Text(plain(message["content"])),))
        case "tool":
            call = message["tool_call_id"]
            content = plain(message["content"])
            return Message("tool", (ToolResult(call, names[call], (Text(content),), content.startswith('{"error"')),))
        case _:
            calls = [call["function"] | {"id": call["id"]} for call in message.get("tool_calls") or ()]
            names.update({call["id"]: call["name"] for call in calls})
            parts: list[Part] = [ToolCall(call["id"], call["name"], call["arguments"]) for call in calls]
            return Message("assistant", tuple(parts) or (Text(plain(message["content"])),))


def plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


async def test_the_tour_holds_its_claims_on_a_model_behind_http(tmp_path: Path) -> None:
    printed = StringIO()
    async with WireServer(answer) as server:
        config = ModelConfig(name="wired", model="some-model", base_url=f"{server.url}/v1")
        theatre = Theatre(Stage(Console(file=printed, width=110), fast=True), tmp_path, "wired", {"wired": config})
        try:
            await tour.take(theatre)
        finally:
            theatre.close()
    assert theatre.stage.failed == [], printed.getvalue()
    assert len(theatre.stage.claims) > 30
    assert "The model is wired" in printed.getvalue()
    assert len(server.requests) > 50
