"""Arguments are held against the tool's schema before anybody is asked to approve them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.fitness import unfit

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "order": {"type": "string", "minLength": 1},
        "cents": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "how": {"enum": ["card", "cash"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "maxItems": 2},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["order", "cents"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}},
}


@pytest.mark.parametrize(
    ("arguments", "clause"),
    [
        ({"order": "1", "cents": 5}, None),
        ({"order": "1", "cents": 5.0, "note": None, "how": "card", "lines": [{"n": 1.5}]}, None),
        ({"order": "1"}, "`cents` is missing"),
        ({"order": "1", "cents": "many"}, "`cents` must be integer, not string"),
        ({"order": "1", "cents": True}, "`cents` must be integer, not boolean"),
        ({"order": "1", "cents": 0}, "`cents` must be at least 1"),
        ({"order": "", "cents": 1}, "`order` must be at least 1 characters long"),
        ({"order": "1", "cents": 1, "how": "gold"}, "`how` must be one of 'card', 'cash'"),
        ({"order": "1", "cents": 1, "lines": [{"n": 1}, {}]}, "`lines[1].n` is missing"),
        ({"order": "1", "cents": 1, "lines": [1, 2, 3]}, "`lines` must be at most 2 items long"),
        ({"order": "1", "cents": 1, "note": 5}, "`note` fits none of the forms it may have"),
        ({"order": "1", "cents": 1, "colour": 5}, "`colour` is not an argument; there are order, cents"),
    ],
)
def test_each_misfit_is_named_with_its_place(arguments: dict[str, Any], clause: str | None) -> None:
    found = unfit(arguments, SCHEMA)
    assert (found is None) == (clause is None)
    assert clause is None or str(found).startswith(clause)


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert unfit({}, {"$ref": "#"}) == "the whole has too many levels"


class Order(msgspec.Struct, forbid_unknown_fields=True):
    order: str
    cents: int
    lines: list[float] = []
    note: str | None = None


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, width=16) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["order", "cents", "lines", "note", "x"]), inner)
    ),
)


@given(st.dictionaries(st.sampled_from(["order", "cents", "lines", "note", "x"]), json))
def test_what_converts_fits_and_what_does_not_fit_does_not_convert(arguments: dict[str, Any]) -> None:
    (schema,), parts = msgspec.json.schema_components([Order], ref_template="#/$defs/{name}")
    misfit = unfit(arguments, {**schema, "$defs": parts})
    try:
        msgspec.convert(arguments, Order)
    except msgspec.ValidationError:
        return  # the schema of a type says less than the type: a value may fit and still be refused
    assert misfit is None


schemas = st.recursive(
    json,
    lambda inner: st.dictionaries(
        st.sampled_from(["type", "anyOf", "$ref", "enum", "properties", "required", "items", "minimum", "maxLength"]),
        inner | st.sampled_from(["#", "#/properties/order", "object", "string"]),
        max_size=4,
    ),
)


@given(st.dictionaries(st.sampled_from(["type", "anyOf", "properties", "required", "order"]), schemas), json)
def test_a_schema_that_makes_no_sense_demands_nothing_and_breaks_nothing(schema: dict[str, Any], value: Any) -> None:
    assert unfit(value, schema) is None or isinstance(unfit(value, schema), str)


def test_a_schema_that_branches_without_end_is_given_up() -> None:
    both = [{"$ref": "#"}, {"$ref": "#"}]
    assert unfit({}, {"anyOf": both, "oneOf": both}) is None
