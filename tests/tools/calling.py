"""What the tests of tools share: calling one as the runtime does, and arguments of every type."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from remanence.content import ToolCall, text_of
from remanence.ports import ToolCallContext, ToolOutcome
from remanence.tools import FunctionTool

CONTEXT = ToolCallContext("s1", "default", "support", "ada", 3, "s1:3:call_3_1_0", 1)


async def call(declared: FunctionTool[..., Any], written: str = "", /, **arguments: Any) -> ToolOutcome:
    written = written or msgspec.json.encode(arguments).decode()
    return await declared.run(ToolCall("call_3_1_0", declared.spec.name, written), CONTEXT)


async def said(declared: FunctionTool[..., Any], written: str = "", /, **arguments: Any) -> str:
    """The text of an outcome that is not an error."""
    outcome = await call(declared, written, **arguments)
    assert not outcome.error, outcome
    return text_of(outcome.parts)


async def complaint(declared: FunctionTool[..., Any], written: str = "", /, **arguments: Any) -> str:
    outcome = await call(declared, written, **arguments)
    assert outcome.error, outcome
    return text_of(outcome.parts)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(TypedDict, total=False):
    street: str
    zip: str


@dataclass
class Line:
    sku: str
    count: int = 1


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


class Box(msgspec.Struct, forbid_unknown_fields=True):
    lines: list[Line]
    address: Address | None = None
    by_colour: dict[str, Line] = {}
