"""What `@tool` reads from a function, and what it refuses at import."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from calling import Address, Colour, Line, Node, said
from typing_extensions import Doc

from remanence.errors import InvalidSpec
from remanence.ports import ToolCallContext
from remanence.spec import AskRule
from remanence.tools import FunctionTool, client_tool, tool


def properties(declared: FunctionTool[..., Any]) -> dict[str, Any]:
    return declared.spec.parameters["properties"]


def test_a_bare_tool_takes_its_name_and_words_from_the_function() -> None:
    @tool
    def look_up(order: str, limit: int = 10) -> str:
        """Look an order up.

        The order book is read, nothing is changed.

        Args:
            order: The number of the order,
                as the customer wrote it.
            limit (int): How many lines to show.

        Returns:
            Nothing the model must know beforehand.
        """
        return f"{order} {limit}"

    spec = look_up.spec
    assert spec.name == "look_up"
    assert spec.description == "Look an order up.\n\nThe order book is read, nothing is changed."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "order": {"type": "string", "description": "The number of the order, as the customer wrote it."},
            "limit": {"type": "integer", "description": "How many lines to show.", "default": 10},
        },
        "required": ["order"],
        "additionalProperties": False,
    }
    assert (spec.kind, spec.replay, spec.reconciles, spec.timeout_s) == ("function", "never", False, 60.0)
    assert look_up.approval is None


def test_the_decorated_function_can_still_be_called() -> None:
    @tool
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert double.__name__ == "double"
    assert repr(double) == "<tool double>"


async def test_a_decorated_coroutine_function_can_still_be_awaited() -> None:
    @tool(replay="keyed")
    async def refund(order: str, cents: int, *, effect_key: str) -> str:
        return f"{order} {cents} {effect_key}"

    assert await refund("42", 100, effect_key="k") == "42 100 k"


def test_options_are_kept() -> None:
    @tool(
        name="pay-back",
        replay="keyed",
        approval="cents > 5000",
        approvers=["ada", "bob"],
        needed=2,
        expires_s=60,
        timeout_s=5,
        reconcile=lambda key: None,
    )
    def refund(cents: int, effect_key: str) -> None: ...

    spec = refund.spec
    assert (spec.name, spec.replay, spec.timeout_s, spec.reconciles) == ("pay-back", "keyed", 5.0, True)
    assert refund.approval == AskRule("pay-back", "cents > 5000", ("ada", "bob"), 2, 60.0)


def test_approval_may_be_always() -> None:
    @tool(approval=True)
    def wipe() -> None: ...

    assert wipe.approval == AskRule("wipe")
    assert wipe.spec.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_what_the_runtime_gives_is_not_shown() -> None:
    @tool
    def act(what: str, effect_key: str, first: ToolCallContext, second: ToolCallContext | None = None) -> None: ...

    assert list(properties(act)) == ["what"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Colour, {"type": "string", "enum": ["blue", "red"]}),
        (Literal["s", "m"], {"type": "string", "enum": ["m", "s"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            Address,
            {
                "type": "object",
                "properties": {"street": {"type": "string"}, "zip": {"type": "string"}},
                "additionalProperties": False,
            },
        ),
        (
            Line,
            {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                "required": ["sku"],
                "additionalProperties": False,
            },
        ),
        (Any, {}),
        (Annotated[int, msgspec.Meta(ge=1)], {"type": "integer", "minimum": 1}),
        (Annotated[str, "A short note."], {"type": "string", "description": "A short note."}),
        (Annotated[str, Doc("A short note.")], {"type": "string", "description": "A short note."}),
        (datetime, {"type": "string", "format": "date-time"}),
        (date, {"type": "string", "format": "date"}),
        (time, {"type": "string", "format": "time"}),
        (datetime | None, {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
        (Decimal, {"type": "string", "format": "decimal"}),
    ],
)
def test_types_become_schemas(annotation: Any, schema: dict[str, Any]) -> None:
    def act(value: Any) -> None: ...

    act.__annotations__["value"] = annotation
    declared = tool(act)
    assert properties(declared) == {"value": schema}
    assert "$defs" not in declared.spec.parameters


def test_defaults_are_shown() -> None:
    @tool
    def act(some: int = 1, note: str = "", either: str | None = None, tags: list[str] = []) -> None: ...  # noqa: B006

    assert {name: schema["default"] for name, schema in properties(act).items()} == {
        "some": 1,
        "note": "",
        "either": None,
        "tags": [],
    }


def test_a_type_that_refers_to_itself_stays_a_reference() -> None:
    @tool
    def plant(tree: Node, line: Line) -> None: ...

    assert properties(plant)["tree"] == {"$ref": "#/$defs/Node"}
    assert list(plant.spec.parameters["$defs"]) == ["Node"]


def test_a_property_may_be_called_title() -> None:
    @dataclass
    class Book:
        title: str
        discriminator: int = 0

    @tool
    def read(book: Book, title: str) -> None: ...

    assert list(properties(read)) == ["book", "title"]
    assert list(properties(read)["book"]["properties"]) == ["title", "discriminator"]


def test_a_type_of_the_enclosing_function_is_found() -> None:
    class Mood(enum.Enum):
        CALM = "calm"
        PLAIN = "plain"

    @tool
    def bare(mood: Mood) -> None: ...

    @tool(name="called")
    def with_options(mood: Mood) -> None: ...

    assert properties(bare) == properties(with_options) == {"mood": {"type": "string", "enum": ["calm", "plain"]}}


def test_a_default_that_json_cannot_write_is_the_functions_own_affair() -> None:
    marker: Any = object()

    @tool
    def act(colour: Colour = Colour.RED, count: int = marker, late: str = marker) -> None: ...

    assert properties(act)["colour"]["default"] == "red"
    assert "default" not in properties(act)["count"]
    assert "required" not in act.spec.parameters


def test_reconcile_can_be_given_afterwards() -> None:
    @tool
    def pay(cents: int) -> None: ...

    @pay.reconcile
    def find(effect_key: str) -> str:
        return f"paid {effect_key}"

    assert find("k") == "paid k"
    assert pay.spec.reconciles
    with pytest.raises(InvalidSpec, match="already has a `reconcile`"):
        pay.reconcile(find)


def test_a_client_tool_has_no_code_here() -> None:
    spec = client_tool("pick", {"properties": {"item": {"type": "string"}}}, "Pick an item.", replay="safe")
    assert (spec.name, spec.kind, spec.description, spec.replay) == ("pick", "client", "Pick an item.", "safe")
    assert spec.parameters == {"type": "object", "properties": {"item": {"type": "string"}}}
    assert client_tool("ping").parameters == {"type": "object", "properties": {}, "additionalProperties": False}


async def test_a_method_of_an_object_or_a_class_is_a_tool() -> None:
    declared = tool(Clerk(3).at)
    assert (declared.spec.name, declared.spec.description, list(properties(declared))) == (
        "at",
        "Say at which counter.",
        ["order"],
    )
    assert await said(declared, order="42") == "42 at 3"
    assert await said(tool(Clerk.of_class), order="42") == "42 by Clerk"
    assert await said(tool(Clerk.of_nobody), order="42") == "42"


# --- what cannot mean what it says ------------------------------------------------------------------------------------


class Custom: ...


class Clerk:
    def __init__(self, counter: int) -> None:
        self.counter = counter

    def at(self, order: str) -> str:
        """Say at which counter."""
        return f"{order} at {self.counter}"

    @classmethod
    def of_class(cls, order: str) -> str:
        return f"{order} by {cls.__name__}"

    @staticmethod
    def of_nobody(order: str) -> str:
        return order


def unannotated(order) -> None: ...


def many(*orders: str) -> None: ...


def named(**orders: str) -> None: ...


def positional(order: str, /) -> None: ...


def method(self, order: str) -> None: ...


def custom(thing: Custom) -> None: ...


def unresolved(thing: int) -> None: ...


unresolved.__annotations__["thing"] = "Missing"


def union(thing: Line | Node) -> None: ...


def not_checked(things: Iterable[int]) -> None: ...


def wrong_key(effect_key: int) -> None: ...


def endless(order: str) -> Any:
    yield order


def fine(cents: int, effect_key: str = "") -> None: ...


def plain(cents: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (unannotated, r"`unannotated` \(test_declarations.py, line \d+\): the parameter `order` has no annotation"),
        (many, r"`\*orders` cannot be described to a model; use a list"),
        (named, r"`\*\*orders` cannot be described to a model; use a dict"),
        (positional, "`order` is positional-only"),
        (
            method,
            r"`self` has no annotation; functions can be tools, and methods of an object: tool\(the_object.method\)",
        ),
        (custom, "the annotation `Custom` of `thing` says nothing that JSON can"),
        (unresolved, "the annotation `Missing` of `thing` cannot be resolved: name 'Missing' is not defined"),
        (union, "may not contain more than one dict-like"),
        (not_checked, "Iterable'> is not supported"),
        (wrong_key, "`effect_key` receives the effect key: annotate it `str`"),
        (endless, "cannot `yield`"),
        (Custom, "goes on a function"),
        ("refund", "goes on a function, not on 'refund'"),
        (lambda: None, "a name has 1 to 64 letters"),
        (functools.partial(print, 1), "goes on a function, not on functools.partial.* Write one that calls it"),
        (vars(Clerk)["of_class"], r"not on a method that has no class yet; make it one later: tool\(TheClass.method\)"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(function: Any, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        tool(function)


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (fine, {"name": "pay back"}, "a name has 1 to 64 letters"),
        (fine, {"name": "x" * 65}, "a name has 1 to 64 letters"),
        (fine, {"replay": "maybe"}, "replay='maybe' is not one of 'safe', 'keyed', 'never'"),
        (plain, {"replay": "keyed"}, "take `effect_key: str`, or say 'safe'"),
        (fine, {"timeout_s": 0}, "timeout_s=0 is not a number of seconds over 0"),
        (fine, {"timeout_s": float("inf")}, "timeout_s=inf"),
        (fine, {"timeout_s": True}, "timeout_s=True"),
        (fine, {"reconcile": "find"}, "reconcile='find' is not a function"),
        (fine, {"reconcile": lambda: None}, "`reconcile` is called with the effect key alone"),
        (fine, {"approval": "cents >"}, r"approval='cents >': not a condition: .* \(column 8\)"),
        (fine, {"approval": ""}, "the condition is empty"),
        (fine, {"approval": "cent > 5"}, "names `cent`, which is not an argument; they are: cents"),
        (fine, {"approval": "effect_key == 'x'"}, "names `effect_key`, which is not an argument"),
        (fine, {"approval": "cents.amount > 5"}, "names `cents.amount`"),
        (fine, {"approvers": ["ada"]}, "approvers= says nothing without approval="),
        (fine, {"approval": True, "approvers": "ada"}, "approvers='ada' is not a sequence of names"),
        (fine, {"approval": True, "approvers": [""]}, "is not a sequence of names"),
        (fine, {"approval": True, "needed": 0}, "needed=0 is not a number of people"),
        (fine, {"approval": True, "needed": True}, "needed=True"),
        (fine, {"approval": True, "approvers": ["ada", "ada"], "needed": 2}, "only 1 may answer"),
        (fine, {"approval": True, "expires_s": -1}, "expires_s=-1"),
        (fine, {"approval": 1}, "approval=1 is neither a condition, such as 'cents > 5000', nor a bool"),
        (fine, {"approval": None}, "approval=None is neither a condition"),
        (fine, {"name": 5}, "a name has 1 to 64 letters"),
        (fine, {"untrusted": "no"}, "untrusted='no' is neither True nor False"),
        (fine, {"aproval": True}, "no such option: aproval. The options are replay, approval"),
    ],
)
def test_options_that_mean_nothing_are_refused(function: Callable[..., Any], options: Any, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        tool(**options)(function)


def test_a_function_written_in_c_is_read_like_any_other_or_refused_in_words() -> None:
    with pytest.raises(InvalidSpec):
        tool(len)
