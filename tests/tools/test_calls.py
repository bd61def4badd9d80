"""What becomes of a call: arguments checked and typed, threads out of the way, doubts reconciled."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest
from calling import CONTEXT, Address, Box, Colour, Line, Node, call, complaint, said
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Text, ToolCall, text_of
from remanence.ports import Tool, ToolCallContext, ToolOutcome
from remanence.tools import NOT_HAPPENED, FunctionTool, tool


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


async def test_a_whole_number_written_with_a_point_is_an_integer() -> None:
    @tool
    async def pay(cents: int, parts: list[int], rate: float, either: int | float = 0, rest: Any = None) -> str:
        return repr((cents, parts, rate, either, rest))

    written = {"parts": [1.0, 2], "rate": 2.0, "either": 3.0}
    assert await said(pay, cents=9000.0, **written) == repr((9000, [1, 2], 2.0, 3, None))
    assert await said(pay, cents=9000, parts=[], rate=2, rest=[2.0]) == repr((9000, [], 2.0, 0, [2.0]))
    assert "`cents`: expected `integer`, got `number`" in await complaint(pay, cents=9000.5, parts=[1.0], rate=1)
    assert "parts" not in (await complaint(pay, cents=2.5, parts=[1.0], rate=1)).partition(" Expected:")[0]
    assert "`cents`: expected `integer`" in await complaint(pay, cents=1e300, parts=[], rate=1)


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
        ("[]", ["must be a JSON object, not a list"]),
        ('"42"', ["must be a JSON object, not a string"]),
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


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_a_plain_function_does_not_block_the_loop() -> None:
    loop, released, thread = asyncio.get_running_loop(), threading.Event(), threading.get_ident()

    @tool
    def act() -> bool:
        return released.wait(60) and threading.get_ident() != thread

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
    ],
)
async def test_reconcile_tells_what_became_of_an_effect(answer: Any, found: Any) -> None:
    assert await knower(answer).reconcile("s:1:c") == found


@pytest.mark.parametrize(
    ("raised", "heard"), [(ValueError("ledger is away"), ValueError), (SystemExit("hard"), RuntimeError)]
)
async def test_a_reconcile_that_raises_is_heard(raised: BaseException, heard: type[Exception]) -> None:
    with pytest.raises(heard, match=str(raised)):
        await knower(raised).reconcile("s:1:c")


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

received: list[dict[str, Any]] = []


@tool(replay="safe")
async def record(text: str, count: int, ratio: float, yes: bool, size: Literal["s", "m", "l"], colour: Colour) -> None:
    received.append(dict(locals()))


@tool(replay="safe")
async def keep(tags: list[str], counts: dict[str, int], line: Line, address: Address, maybe: int | None = None) -> None:
    received.append(dict(locals()))


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
RECORD = st.fixed_dictionaries(
    {
        "text": TEXT,
        "count": st.integers(),
        "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "yes": st.booleans(),
        "size": st.sampled_from(["s", "m", "l"]),
        "colour": st.sampled_from(["red", "blue"]),
    }
)
KEEP = st.fixed_dictionaries(
    {
        "tags": st.lists(TEXT, max_size=3),
        "counts": st.dictionaries(TEXT, st.integers(), max_size=3),
        "line": st.fixed_dictionaries({"sku": TEXT}, optional={"count": st.integers()}),
        "address": st.fixed_dictionaries({}, optional={"street": TEXT, "zip": TEXT}),
    },
    optional={"maybe": st.none() | st.integers()},
)


@given(RECORD, KEEP)
def test_arguments_that_are_valid_reach_the_function_typed(first: dict[str, Any], second: dict[str, Any]) -> None:
    received.clear()
    for declared, arguments in ((record, first), (keep, second)):
        outcome = asyncio.run(call(declared, **arguments))
        assert not outcome.error, outcome
    recorded, kept = received
    kinds = {"text": str, "count": int, "ratio": float, "yes": bool, "size": str, "colour": Colour}
    assert {name: type(value) for name, value in recorded.items()} == kinds
    assert recorded == {**first, "colour": Colour(first["colour"])}
    assert kept == {**second, "line": Line(**second["line"]), "maybe": second.get("maybe")}
    assert type(kept["line"]) is Line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = ["text", "count", "ratio", "yes", "size", "colour", "tags", "counts", "line", "address", "maybe", "x"]
SPOILT = st.builds(
    lambda good, bad: {**good, **bad}, RECORD | KEEP, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2)
)
ANY_TEXT = st.text(max_size=60) | JSON.map(lambda value: msgspec.json.encode(value).decode())
ANY_TEXT |= SPOILT.map(lambda value: msgspec.json.encode(value).decode())


@given(ANY_TEXT)
def test_no_text_of_arguments_ever_raises(text: str) -> None:
    for declared in (record, keep, order):
        outcome = asyncio.run(declared.run(ToolCall("c", declared.spec.name, text), CONTEXT))
        msgspec.json.encode(outcome.parts)
        if outcome.error:
            assert "so it was not run: " in text_of(outcome.parts)
