"""What a tool gave back or raised, as the model reads it and as the journal can hold it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import UserList, deque
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from calling import Colour, Line, Node, call, complaint
from structlog.testing import capture_logs

from remanence.content import File, Image, Text, Thinking, ToolCall, text_of
from remanence.errors import ToolError
from remanence.ports import ToolOutcome
from remanence.tools import tool

# --- results ----------------------------------------------------------------------------------------------------------


class Word(str):
    __slots__ = ()


class Model:
    """Quacks like a pydantic model."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"mode": mode}


def row() -> sqlite3.Row:
    with closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = sqlite3.Row
        return database.execute("SELECT 'A' AS sku, 2 AS count").fetchone()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "done"),
        ("", ""),
        ("text", "text"),
        (Word("text"), "text"),
        (42, "42"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([], "[]"),
        (["a", "b"], '["a","b"]'),
        (Line("A"), '{"sku":"A","count":1}'),
        (Node("a"), '{"name":"a","children":[]}'),
        (Colour.RED, '"red"'),
        (Model(), '{"mode":"json"}'),
        ([Model()], '[{"mode":"json"}]'),
        (Text("part"), "part"),
        ([Text("a"), Text("b")], "a\nb"),
        (ToolOutcome((Text("whole"),)), "whole"),
        (PurePosixPath("/etc/hosts"), "/etc/hosts"),
        ({"at": PurePosixPath("/etc")}, '{"at":"/etc"}'),
        ([IPv4Address("127.0.0.1")], '["127.0.0.1"]'),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        ({"a": 1}.keys(), '["a"]'),
        ({"a": 1}.values(), "[1]"),
        (deque([1, 2]), "[1,2]"),
        (UserList([deque([1])]), "[[1]]"),
        (row(), '{"sku":"A","count":2}'),
        ([row()], '[{"sku":"A","count":2}]'),
    ],
)
async def test_results_become_text(value: Any, shown: str) -> None:
    @tool
    async def act() -> Any:
        return value

    outcome = await call(act)
    assert not outcome.error
    assert text_of(outcome.parts) == shown
    assert all(type(part.text) is str for part in outcome.parts if isinstance(part, Text))


async def test_parts_are_kept() -> None:
    picture = Image("image/png", data="aGk=")

    @tool
    async def act() -> Any:
        return (Text("see"), picture)

    assert (await call(act)).parts == (Text("see"), picture)


async def test_what_stands_beside_a_part_is_text_and_the_part_stays_a_part() -> None:
    picture = Image("image/png", data="aGk=")

    @tool
    async def act() -> Any:
        return ["see", picture, {"wide": 3}]

    assert (await call(act)).parts == (Text("see"), picture, Text('{"wide":3}'))


FIVE: Any = 5


def circular() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "cannot be written as JSON"),
        (b"bytes", "return a File or an Image part"),
        ("\ud800", "surrogates not allowed"),
        (circular(), "RecursionError"),
        ({"a": object()}, "cannot be written as JSON"),
        (Thinking("hm"), "may show Text, Image and File parts, not Thinking"),
        (ToolOutcome((ToolCall("c", "x", "{}"),)), "may show Text, Image and File parts, not ToolCall"),
        (Image("image/png"), "exactly one of url, data and blob"),
        (File("text/plain", url="a", data="b"), "exactly one of url, data and blob"),
        (Text(FIVE), "ValidationError"),
        ((x for x in "ab"), "cannot be written as JSON"),
        ({(1, 2): 3}, "a value of type tuple cannot be written as JSON"),
        (range(10**15), "a value of type range cannot be written as JSON"),
        (Model, "cannot be written as JSON"),
        ([Text("a"), b"bytes"], "return a File or an Image part"),
    ],
)
async def test_a_result_that_cannot_be_shown_is_an_error_that_says_it_ran(value: Any, says: str) -> None:
    @tool
    async def act() -> Any:
        return value

    words = await complaint(act)
    assert words.startswith("The tool ran, and its effects stand, but its result cannot be shown")
    assert says in words
    msgspec.json.encode((await call(act)).parts)


# --- failures ---------------------------------------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Hard(BaseException): ...


FAILURES = [
    (ValueError("no such order"), "act failed: ValueError: no such order"),
    (ToolError("The shop is closed."), "The shop is closed."),
    (ToolError(""), "act refused"),
    (KeyError("x"), "act failed: KeyError: 'x'"),
    (RuntimeError(), "act failed: RuntimeError"),
    (StopIteration("end"), "act failed: "),
    (Unspeakable(), "act failed: Unspeakable"),
    (Hard("hard"), "act failed: Hard: hard"),
    (ExceptionGroup("many", [ValueError("a")]), "act failed: ExceptionGroup: many (1 sub-exception)"),
    (ValueError("\ud800"), "act failed: ValueError: ?"),
    (TimeoutError("slow"), "act failed: TimeoutError: slow"),
    (asyncio.CancelledError("inner"), "act failed: CancelledError: inner"),
]


@pytest.mark.parametrize(("error", "says"), FAILURES)
@pytest.mark.parametrize("blocking", [True, False])
async def test_what_a_tool_raises_is_told_without_a_traceback(error: BaseException, says: str, blocking: bool) -> None:
    def act() -> None:
        raise error

    async def act_async() -> None:
        raise error

    declared = tool(act) if blocking else tool(name="act")(act_async)
    words = await complaint(declared)
    assert words.startswith(says)
    assert "Traceback" not in words
    assert ".py" not in words


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(3)])
@pytest.mark.parametrize("blocking", [True, False])
async def test_leaving_the_process_is_not_for_a_tool_to_decide(error: BaseException, blocking: bool) -> None:
    def act() -> None:
        raise error

    async def act_async() -> None:
        raise error

    declared = tool(act) if blocking else tool(name="act")(act_async)
    assert await complaint(declared) == f"act failed: {type(error).__name__}: 3"


async def test_a_long_message_is_cut() -> None:
    @tool
    def act() -> None:
        raise ValueError("x" * 100_000)

    assert len(await complaint(act)) < 5_000


async def test_the_traceback_goes_to_the_log() -> None:
    @tool
    def act() -> None:
        raise ValueError("no such order")

    with capture_logs() as logs:
        await complaint(act)
    (entry,) = logs
    assert (entry["tool"], entry["effect_key"]) == ("act", "s1:3:call_3_1_0")
    assert "test_results.py" in entry["exception"]
    assert entry["exception"].endswith("ValueError: no such order\n")


async def test_cancellation_from_outside_goes_through() -> None:
    started = asyncio.Event()

    @tool
    async def act() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(act))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_out_from_outside_goes_through() -> None:
    @tool
    async def act() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call(act)
