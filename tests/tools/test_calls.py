"""What becomes of a call: arguments checked and typed, results shown, failures contained, threads kept in bounds."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import threading
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import File, Image, Text, Thinking, ToolCall, text_of
from remanence.errors import ToolError
from remanence.ports import Tool, ToolCallContext, ToolOutcome
from remanence.tools import NOT_HAPPENED, FunctionTool, tool

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


@tool
async def order(
    number: str, cents: int, box: Box | None = None, tree: Node | None = None, colour: Colour = Colour.RED
) -> str:
    return repr((number, cents, box, tree, colour))


# --- arguments --------------------------------------------------------------------------------------------------------


async def test_arguments_arrive_typed_and_defaults_apply() -> None:
    assert await said(order, number="42", cents=5) == repr(("42", 5, None, None, Colour.RED))
    box = {"lines": [{"sku": "A"}], "address": {"zip": "75001"}, "by_colour": {"red": {"sku": "B", "count": 2}}}
    expected = Box([Line("A")], {"zip": "75001"}, {"red": Line("B", 2)})
    assert await said(order, number="42", cents=5, box=box, colour="blue") == repr(
        ("42", 5, expected, None, Colour.BLUE)
    )
    tree = {"name": "a", "children": [{"name": "b"}]}
    assert await said(order, number="42", cents=5, tree=tree) == repr(
        ("42", 5, None, Node("a", [Node("b")]), Colour.RED)
    )


async def test_the_runtime_gives_key_and_context() -> None:
    @tool(replay="keyed")
    async def pay(
        cents: int, *, effect_key: str, context: ToolCallContext, again: ToolCallContext | None = None
    ) -> str:
        assert again is context
        return f"{cents} {effect_key} {context.user}"

    assert await said(pay, cents=5) == "5 s1:3:call_3_1_0 ada"
    assert "`effect_key` is not an argument" in await complaint(pay, cents=5, effect_key="mine")


async def test_a_missing_default_is_the_functions_own() -> None:
    unset = object()

    @tool
    def act(note: Any = unset) -> bool:
        return note is unset

    assert await said(act) == "true"
    assert await said(act, note=None) == "false"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["`number` is missing", "`cents` is missing"]),
        ("{}", ["`number` is missing; `cents` is missing"]),
        ("{", ["not valid JSON"]),
        ('{"number": "\\ud800"}', ["not valid JSON"]),
        ("[]", ["must be a JSON object, not list"]),
        ('"42"', ["must be a JSON object, not str"]),
        ('{"number": "42", "cents": "5"}', ["`cents`: expected `integer`, got `string`"]),
        ('{"number": "42", "cents": true}', ["`cents`: expected `integer`, got `boolean`"]),
        ('{"number": "42", "cents": null}', ["`cents`: expected `integer`, got `null`"]),
        (
            '{"numbr": "42", "cents": 5.5}',
            ["`number` is missing", "`numbr` is not an argument (`number` is)", "`cents`: expected"],
        ),
        ('{"number": "42", "cents": 5, "colour": "green"}', ["`colour`: invalid enum value 'green'", '"blue" | "red"']),
        (
            '{"number": "42", "cents": 5, "box": {"lines": [{"sku": 1}]}}',
            ["`box.lines[0].sku`: expected `string`, got `integer`"],
        ),
        ('{"number": "42", "cents": 5, "box": {}}', ["`box`: object missing required field `lines`"]),
        (
            '{"number": "42", "cents": 5, "box": {"lines": [{"sku": "A", "size": 1}]}}',
            ["`box.lines[0].size` is not known there"],
        ),
        (
            '{"number": "42", "cents": 5, "box": {"lines": [], "address": {"town": "x"}}}',
            ["`box.address.town` is not known there"],
        ),
        (
            '{"number": "42", "cents": 5, "box": {"lines": [], "by_colour": {"red": {"sku": "A", "x": 1}}}}',
            ["`box.by_colour.red.x`"],
        ),
        (
            '{"number": "42", "cents": 5, "tree": {"name": "a", "children": [{"name": "b", "leaf": 1}]}}',
            ["`tree.children[0].leaf`"],
        ),
    ],
)
async def test_a_bad_call_names_the_field_and_the_expected_shape(text: str, says: list[str]) -> None:
    words = await complaint(order, text or " ")
    assert words.startswith("The arguments of order are not valid, so it was not run: ")
    for piece in says:
        assert piece in words
    assert (
        "JSON" in words
        or "Expected: {number: string, cents: integer, box?: {lines: [{sku: string, count?: integer}]" in words
    )


async def test_arguments_nested_without_end_are_refused() -> None:
    deep = '{"name": "a", "children": [' * 2_000 + "]}" * 2_000
    for text in ('{"number": ' + "[" * 100_000, '{"number": "42", "cents": 5, "tree": ' + deep + "}"):
        outcome = await order.run(ToolCall("c", "order", text), CONTEXT)
        assert outcome.error
        assert len(text_of(outcome.parts)) < 5_000


async def test_code_of_the_arguments_own_type_may_refuse_them() -> None:
    @dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("must be even")
            if self.number < 0:
                raise KeyError("negative")

    @tool
    def act(even: Even) -> None: ...

    assert await said(act, even={"number": 2}) == "done"
    assert "must be even" in await complaint(act, even={"number": 1})
    assert "negative" in await complaint(act, even={"number": -2})


# --- results ----------------------------------------------------------------------------------------------------------


class Word(str):
    __slots__ = ()


class Model:
    """Quacks like a pydantic model."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"mode": mode}


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


async def test_leaving_a_thread_is_the_tools_own_affair() -> None:
    @tool
    def act() -> None:
        raise SystemExit(3)

    assert await complaint(act) == "act failed: SystemExit: 3"


async def test_a_long_message_is_cut() -> None:
    @tool
    def act() -> None:
        raise ValueError("x" * 100_000)

    assert len(await complaint(act)) < 5_000


async def test_the_traceback_goes_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    @tool
    def act() -> None:
        raise ValueError("no such order")

    await complaint(act)
    logged = capsys.readouterr()
    assert "test_calls.py" in logged.out + logged.err
    assert "s1:3:call_3_1_0" in logged.out + logged.err


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


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_a_plain_function_does_not_block_the_loop() -> None:
    loop, released, thread = asyncio.get_running_loop(), threading.Event(), threading.get_ident()

    @tool
    def act() -> bool:
        return released.wait(10) and threading.get_ident() != thread

    task = asyncio.create_task(call(act))
    await asyncio.sleep(0)
    loop.call_soon(released.set)
    assert text_of((await task).parts) == "true"


async def test_a_plain_function_may_return_an_awaitable() -> None:
    async def later() -> str:
        return "later"

    @tool
    def act() -> Any:
        return later()

    assert await said(act) == "later"


async def test_context_variables_reach_the_thread() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    @tool
    def act() -> str:
        return who.get()

    who.set("ada")
    assert await said(act) == "ada"


async def test_progress_of_a_thread_is_reported_on_the_loop() -> None:
    heard: list[tuple[str, int]] = []

    @tool
    def act(context: ToolCallContext) -> None:
        assert context.on_progress is not None
        context.on_progress("half")

    context = msgspec.structs.replace(CONTEXT, on_progress=lambda text: heard.append((text, threading.get_ident())))
    assert not (await act.run(ToolCall("c", "act", "{}"), context)).error
    await asyncio.sleep(0)
    assert heard == [("half", threading.get_ident())]


# --- reconcile --------------------------------------------------------------------------------------------------------


def knower(answer: Any) -> FunctionTool[..., Any]:
    def find(effect_key: str) -> Any:
        assert effect_key == "s:1:c"
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @tool(reconcile=find)
    async def pay(cents: int) -> None: ...

    return pay


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, None),
        (False, "not_happened"),
        (NOT_HAPPENED, "not_happened"),
        (True, ToolOutcome((Text("done"),))),
        ("refunded", ToolOutcome((Text("refunded"),))),
        ({"cents": 5}, ToolOutcome((Text('{"cents":5}'),))),
        (0, ToolOutcome((Text("0"),))),
        (ToolOutcome((Text("no"),), error=True), ToolOutcome((Text("no"),), error=True)),
        (ValueError("ledger is away"), None),
        (Hard("hard"), None),
    ],
)
async def test_reconcile_tells_what_became_of_an_effect(answer: Any, found: Any) -> None:
    assert await knower(answer).reconcile("s:1:c") == found


async def test_reconcile_may_be_async_and_may_be_absent() -> None:
    @tool
    async def pay(cents: int) -> None: ...

    assert await pay.reconcile("s:1:c") is None

    @pay.reconcile
    async def find(effect_key: str) -> str:
        return f"found {effect_key}"

    assert await pay.reconcile("s:1:c") == ToolOutcome((Text("found s:1:c"),))
    assert await find("x") == "found x"


def test_a_function_tool_is_a_tool() -> None:
    held: Tool = order
    assert held.spec.name == "order"


# --- laws -------------------------------------------------------------------------------------------------------------

Size = Literal["s", "m", "l"]
received: list[dict[str, Any]] = []


@tool(replay="safe")
async def record(
    text: str,
    count: int,
    ratio: float,
    yes: bool,
    size: Size,
    colour: Colour,
    tags: list[str],
    counts: dict[str, int],
    line: Line,
    address: Address,
    maybe: int | None = None,
) -> None:
    received.append(dict(locals()))


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
GOOD = st.fixed_dictionaries(
    {
        "text": TEXT,
        "count": st.integers(),
        "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "yes": st.booleans(),
        "size": st.sampled_from(["s", "m", "l"]),
        "colour": st.sampled_from(["red", "blue"]),
        "tags": st.lists(TEXT, max_size=3),
        "counts": st.dictionaries(TEXT, st.integers(), max_size=3),
        "line": st.fixed_dictionaries({"sku": TEXT}, optional={"count": st.integers()}),
        "address": st.fixed_dictionaries({}, optional={"street": TEXT, "zip": TEXT}),
    },
    optional={"maybe": st.none() | st.integers()},
)


@given(GOOD)
def test_arguments_that_are_valid_reach_the_function_typed(arguments: dict[str, Any]) -> None:
    received.clear()
    outcome = asyncio.run(call(record, **arguments))
    assert not outcome.error, outcome
    (got,) = received
    kinds = {"text": str, "count": int, "ratio": float, "yes": bool, "size": str, "colour": Colour, "tags": list}
    kinds |= {"counts": dict, "line": Line, "address": dict}
    assert all(type(got[name]) is kind for name, kind in kinds.items())
    assert got["text"] == arguments["text"]
    assert got["colour"] is Colour(arguments["colour"])
    assert got["line"] == Line(**arguments["line"])
    assert got["maybe"] == arguments.get("maybe")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = ["text", "count", "ratio", "yes", "size", "colour", "tags", "counts", "line", "address", "maybe", "x"]
SPOILT = st.builds(lambda good, bad: {**good, **bad}, GOOD, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2))
ANY_TEXT = st.text(max_size=60) | JSON.map(lambda value: msgspec.json.encode(value).decode())
ANY_TEXT |= SPOILT.map(lambda value: msgspec.json.encode(value).decode())


@given(ANY_TEXT)
def test_no_text_of_arguments_ever_raises(text: str) -> None:
    for declared in (record, order):
        outcome = asyncio.run(declared.run(ToolCall("c", declared.spec.name, text), CONTEXT))
        msgspec.json.encode(outcome.parts)
        if outcome.error:
            assert "so it was not run: " in text_of(outcome.parts)
