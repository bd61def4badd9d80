"""What pydantic's users write in a signature: kept, to the last limit, or refused when the tool is declared."""

from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional

import msgspec
import pydantic
import pytest
from agents.tool_context import ToolContext
from calling import Node, complaint, said
from mcp.server.mcpserver import Context
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_ai import RunContext
from typing_extensions import TypedDict

from agents import RunContextWrapper
from remanence.errors import InvalidSpec
from remanence.tools import FunctionTool, tool


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Line(BaseModel):
    """One line of an order."""

    sku: str = Field(description="The article.", pattern="^[A-Z]+$")
    count: int = Field(default=1, ge=1, le=9)
    size: Size = Size.SMALL


class Order(BaseModel):
    lines: list[Line]
    note: str | None = None


class Branch(BaseModel):
    name: str
    children: list[Branch] = []


class Cash(BaseModel):
    kind: Literal["cash"]
    coins: int


class Card(BaseModel):
    kind: Literal["card"]
    number: str


def properties(declared: FunctionTool[..., Any]) -> dict[str, Any]:
    return declared.spec.parameters["properties"]


def taking(annotation: Any) -> FunctionTool[..., str]:
    def act(value: Any) -> str:
        return repr(value)

    act.__annotations__["value"] = annotation
    return tool(act)


# --- models -----------------------------------------------------------------------------------------------------------


async def test_a_model_is_described_checked_and_given_as_the_model_it_is() -> None:
    @tool
    async def place(order: Order, urgent: bool = False) -> str:
        """Place an order."""
        assert isinstance(order, Order)
        return f"{order!r} {urgent}"

    line = {
        "type": "object",
        "properties": {
            "sku": {"type": "string", "description": "The article.", "pattern": "^[A-Z]+$"},
            "count": {"type": "integer", "default": 1, "minimum": 1, "maximum": 9},
            "size": {"type": "string", "enum": ["s", "l"], "default": "s"},
        },
        "required": ["sku"],
        "description": "One line of an order.",
        "additionalProperties": False,
    }
    assert properties(place)["order"]["properties"]["lines"] == {"type": "array", "items": line}
    assert "$defs" not in place.spec.parameters
    given = Order(lines=[Line(sku="A", count=2, size=Size.LARGE)])
    assert await said(place, order={"lines": [{"sku": "A", "count": 2, "size": "l"}]}) == f"{given!r} False"


async def test_what_does_not_fit_is_said_with_its_place() -> None:
    place = taking(Order)
    words = await complaint(place, value={"lines": [{"sku": "A"}, {"sku": "b", "count": 10}, {}]})
    assert "`value.lines[1].sku`: string should match pattern" in words
    assert "`value.lines[1].count`: input should be less than or equal to 9" in words
    assert "`value.lines[2].sku`: field required" in words
    assert "Expected: {value: {lines: [{sku: string, count?: integer, size?: " in words
    assert "`value.lines[0].colour` is not known there" in await complaint(
        place, value={"lines": [{"sku": "A", "colour": "red"}]}
    )
    assert "valid integer" in await complaint(place, value={"lines": [{"sku": "A", "count": "2"}]})


async def test_all_that_is_wrong_is_said_at_once() -> None:
    @tool
    def both(line: Line, times: int) -> None: ...

    words = await complaint(both, line={"sku": "A", "count": 0}, times="x")
    assert "`line.count`: input should be greater than" in words
    assert "`times`: expected `integer`" in words
    assert "`line.count`" in await complaint(both, line={"sku": "A", "count": 0})


async def test_a_model_may_refer_to_itself() -> None:
    plant = taking(Branch)
    assert properties(plant) == {"value": {"$ref": "#/$defs/Branch"}}
    assert plant.spec.parameters["$defs"]["Branch"]["additionalProperties"] is False
    tree = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert await said(plant, value=tree) == repr(Branch(name="a", children=[Branch(name="b")]))
    assert "`value.children[0].name`: field required" in await complaint(plant, value={"name": "a", "children": [{}]})


async def test_which_of_several_models_is_meant_is_told_by_its_fields() -> None:
    pay = taking(Annotated[Cash | Card, Field(discriminator="kind")])
    assert await said(pay, value={"kind": "cash", "coins": 3}) == repr(Cash(kind="cash", coins=3))
    words = await complaint(pay, value={"kind": "card", "number": "1", "coins": 3})
    assert "`value.coins` is not known there" in words
    assert '{kind: "cash", coins: integer} | {kind: "card", number: string}' in words
    assert "`value.number`: field required" in await complaint(pay, value={"kind": "card"})


async def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert await said(taking(Line), value={"sku": "A", "count": 2.0}) == repr(Line(sku="A", count=2))
    assert "valid integer" in await complaint(taking(Line), value={"sku": "A", "count": 2.5})
    assert await said(taking(Annotated[float, Field(ge=0)]), value=2.0) == "2.0"


async def test_a_tuple_is_looked_into() -> None:
    both = taking(tuple[int, Line])
    assert await said(both, value=[1, {"sku": "A"}]) == repr((1, Line(sku="A")))
    words = await complaint(both, value=[1, {"sku": "A", "colour": "red"}])
    assert "`value[1].colour` is not known there" in words
    assert "Expected: {value: [integer, {sku: string" in words


async def test_the_arms_of_a_union_are_no_places() -> None:
    words = await complaint(taking(list[Line] | Line), value={"sku": "A", "count": 99})
    assert "`value.count`: input should be less than or equal to 9" in words
    assert "value.list" not in words
    assert "value.Line" not in words


async def test_a_model_that_takes_more_than_it_names_does() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        name: str

    assert await said(taking(Open), value={"name": "a", "more": 1}) == repr(Open(name="a", more=1))  # pyright: ignore[reportCallIssue]


# --- limits -----------------------------------------------------------------------------------------------------------


def even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


class Limited(TypedDict):
    cents: Annotated[int, Field(le=5000)]


@dataclass
class Wrapped:
    cents: Annotated[int, Field(le=5000)]


@pydantic_dataclass
class Checked:
    cents: int = Field(le=5000)


class Pair(NamedTuple):
    cents: Annotated[int, Field(le=5000)]
    order: str


Cents = NewType("Cents", int)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Annotated[int, Field(le=5000)], 5000, 5001),
        (Annotated[Cents, Field(le=5000)], 5000, 5001),
        (Annotated[str, Field(min_length=2)], "ab", "a"),
        (Optional[Annotated[int, Field(le=5000)]], None, 5001),  # noqa: UP045 - the type checker wants it so
        (list[Annotated[int, Field(le=5000)]], [1], [1, 5001]),
        (dict[str, PositiveInt], {"a": 1}, {"a": 0}),
        (dict[Size, PositiveInt], {"s": 1}, {"m": 1}),
        (Annotated[int, AfterValidator(even)], 2, 3),
        (pydantic.HttpUrl, "https://example.org/", "example"),
        (Limited, {"cents": 5000}, {"cents": 5001}),
        (Wrapped, {"cents": 5000}, {"cents": 5001}),
        (Checked, {"cents": 5000}, {"cents": 5001}),
        (list[Wrapped | None], [{"cents": 1}], [{"cents": 5001}]),
        (Pair, [1, "a"], [5001, "a"]),
        (Path, "/etc", 5),
        (list[int] | tuple[str, str], ["a", "b"], ["a", 1]),
    ],
)
async def test_a_limit_that_is_written_is_kept(annotation: Any, good: object, bad: object) -> None:
    act = taking(annotation)
    await said(act, value=good)
    assert "`value" in await complaint(act, value=bad)


async def test_a_description_and_a_default_are_shown() -> None:
    @tool
    def act(
        cents: Annotated[int, Field(description="How much.", le=10)] = 3,
        line: Line = Line(sku="A"),  # noqa: B008
        odd: Annotated[int, Field(le=10)] = 11,
        where: Annotated[Path, "In which folder."] = Path("/"),
    ) -> str:
        """Act.

        Args:
            line: What to buy.
        """
        return repr((cents, line, odd, where))

    shown = properties(act)
    assert shown["cents"] == {"type": "integer", "description": "How much.", "maximum": 10, "default": 3}
    assert shown["line"]["description"] == "What to buy."
    assert shown["line"]["default"] == {"sku": "A", "count": 1, "size": "s"}
    assert "default" not in shown["odd"]
    assert shown["where"] == {"type": "string", "format": "path", "description": "In which folder.", "default": "/"}
    assert "required" not in act.spec.parameters
    assert await said(act) == repr((3, Line(sku="A"), 11, Path("/")))


async def test_approval_reads_what_a_model_is_told() -> None:
    def buy(line: Line) -> None: ...

    assert tool(approval="line.count > 5")(buy).approval is not None
    with pytest.raises(InvalidSpec, match=r"names `line\.number`"):
        tool(approval="line.number > 5")(buy)


# --- what cannot mean what it says ------------------------------------------------------------------------------------


class Mixed(msgspec.Struct):
    cents: Annotated[int, Field(le=5000)]


class Holding(msgspec.Struct):
    line: Line


class forest:  # noqa: N801 - a name space, as another module would be
    class Branch(msgspec.Struct):
        kids: list[forest.Branch] = []


class Opaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: pytest.Item


def defaulted(cents: int = Field(default=3, le=5000)) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Mixed, "mixes pydantic with the msgspec Struct `Mixed`"),
        (Holding, "mixes pydantic with the msgspec Struct `Holding`"),
        (Annotated[PositiveInt, msgspec.Meta(le=5)], "mixes pydantic with `msgspec.Meta`, which pydantic drops"),
        (Opaque, "says nothing that JSON can"),
    ],
)
def test_what_pydantic_would_drop_is_refused(annotation: Any, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        taking(annotation)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (RunContext[str], "RunContext"),
        (RunContext, "RunContext"),
        (RunContextWrapper[str], "RunContextWrapper"),
        (RunContextWrapper[str] | None, "RunContextWrapper"),
        (ToolContext[str], "ToolContext"),
        (Context, "Context"),
    ],
)
def test_what_another_library_would_give_is_not_asked_of_a_model(annotation: Any, name: str) -> None:
    with pytest.raises(InvalidSpec, match=f"`value` is annotated `{name}`, which another library gives to its tools"):
        taking(annotation)


def test_a_field_as_a_default_is_refused() -> None:
    with pytest.raises(
        InvalidSpec, match=r"say it in the annotation, as in `cents: Annotated\[int, Field\(le=10\)\] = 3`"
    ):
        tool(defaulted)


def test_two_types_of_one_name_that_refer_to_themselves_are_refused() -> None:
    def plant(first: Branch, second: Node) -> None: ...

    assert sorted(tool(plant).spec.parameters["$defs"]) == ["Branch", "Node"]
    plant.__annotations__["second"] = forest.Branch
    with pytest.raises(InvalidSpec, match="two types called `Branch` refer to themselves; rename one"):
        tool(plant)


def test_pydantic_is_not_imported_for_tools_that_do_not_use_it() -> None:
    code = """
import sys
from remanence import tool

@tool
def add(first: int, others: list[str] | None = None) -> int:
    return first

print("pydantic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
