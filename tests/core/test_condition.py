"""The condition language: what it accepts, what it answers, and that it never guesses and never breaks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.condition import ConditionError, holds, parse, unknown_names

CALL: dict[str, Any] = {
    "cents": 6_000,
    "currency": "EUR",
    "urgent": True,
    "note": None,
    "tags": ["broken", "late"],
    "order": {"total": 12.5, "lines": [{"sku": "A1"}], "gift": False},
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("cents > 5000", True),
        ("cents>5000", True),
        ("  cents > 5000  ", True),
        ("cents <= 5000", False),
        ("cents == 6000.0", True),
        ("cents != 6000", False),
        ("0 < cents <= 6000", True),
        ("0 < cents <= 5999", False),
        ("cents > -1", True),
        ('currency == "EUR"', True),
        ("currency < 'F'", True),
        ("currency in ['EUR', 'USD']", True),
        ("currency not in ('EUR', 'USD')", False),
        ("'UR' in currency", True),
        ("'late' in tags", True),
        ("'lost' in tags", False),
        ("'gift' in order", True),
        ("'price' not in order", True),
        ("urgent", True),
        ("not urgent", False),
        ("urgent == true and urgent == True", True),
        ("order.gift == false", True),
        ("order.total > 12", True),
        ("order.total >= 12.5 and not order.gift", True),
        ("note == null", True),
        ("note != None", False),
        ("cents == null", False),
        ("null in [null, 1]", True),
        ("len(tags) == 2", True),
        ("len(currency) > 3", False),
        ("len(order) == 3", True),
        ("order.lines == [1]", False),
        ("tags == ['broken', 'late']", True),
        ("cents > 9000 or (urgent and currency == 'EUR')", True),
        ("true", True),
        ("False", False),
        ("cents > 5000 or nothing > 1", True),
        ("cents > 9000 and nothing > 1", False),
    ],
)
def test_it_answers(text: str, answer: bool) -> None:
    assert holds(parse(text), CALL) is answer


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing > 1", "`nothing` is missing"),
        ("order.price > 1", "`order.price` is missing"),
        ("currency.code == 'EUR'", "`currency.code` is missing"),
        ("nothing > 1 or cents > 1", "`nothing` is missing"),
        ("currency > 5", "a string and a number have no order"),
        ("urgent > 0", "a boolean and a number have no order"),
        ("note < 5", "null and a number have no order"),
        ("tags < ['z']", "a list and a list have no order"),
        ("cents == '6000'", "a number cannot be compared with a string"),
        ("urgent == 1", "a boolean cannot be compared with a number"),
        ("cents", "`cents` is a number, not true or false"),
        ("not order", "`order` is an object, not true or false"),
        ("len(cents) > 1", "`cents` is a number, which has no length"),
        ("cents in currency", "a number cannot be in a string"),
        ("cents in ['a', 'b']", "a number cannot be among these"),
        ("cents in urgent", "a number cannot be in a boolean"),
    ],
)
def test_it_does_not_guess(text: str, says: str) -> None:
    with pytest.raises(ConditionError, match=says):
        holds(parse(text), CALL)


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 0, "empty"),
        ("   ", 0, "empty"),
        ("cents >", 8, "not a condition"),
        ("cents = 5", 7, "write == to compare"),
        ("a > 1 && b", 8, "write `and`"),
        ("a || b", 4, "write `or`"),
        ("cents > 5000 # and so on\nor true", 25, "one line"),
        ("5", 1, "expected a comparison"),
        ("'yes'", 1, "expected a comparison"),
        ("null", 1, "expected a comparison"),
        ("cents and 5", 11, "expected a comparison"),
        ("cents + 1 > 5", 1, "expected an argument"),
        ("a > 1 and b[0] == 2", 11, "a path is names"),
        ("args[reply] == 2", 1, "a path is names"),
        ('f()["x"] == 2', 1, "a path is names"),
        ('true["x"] == 2', 1, "a path is names"),
        ("é > 1 and b() == 2", 11, "expected an argument"),
        ("  b() == 2", 3, "expected an argument"),
        ("len() > 1", 1, "expected an argument"),
        ("len(a, b) > 1", 1, "expected an argument"),
        ("len('abc') > 1", 1, "expected an argument"),
        ("a is None", 1, "`is` is not part"),
        ("a == b'x'", 6, "expected an argument"),
        ("a == 1j", 6, "expected an argument"),
        ("a == f'{b}'", 6, "expected an argument"),
        ("a in [b]", 7, "expected an argument"),
        ("a == {1: 2}", 6, "expected an argument"),
        ("(lambda: 1)() == 1", 1, "expected an argument"),
        ("[x for x in y] == 1", 1, "expected an argument"),
        ("__import__('os').system('true') == 0", 1, "expected an argument"),
        ("().__class__ == 1", 1, "a path is names"),
        ("true.real == 1", 1, "a path is names"),
        ("(a := 5) > 1", 2, "expected an argument"),
        ("a if b else c", 1, "expected a comparison"),
        ("a == ...", 6, "expected an argument"),
    ],
)
def test_it_refuses_and_points_at_the_column(text: str, column: int, says: str) -> None:
    with pytest.raises(ConditionError, match=says) as caught:
        parse(text)
    assert caught.value.column == column


def test_it_is_bounded_in_length_and_depth() -> None:
    with pytest.raises(ConditionError, match="at most 1,000 characters"):
        parse("a == 1" + " or a == 1" * 200)
    for deep in (
        "not " * 200 + "a",
        "(" * 150 + "a" + ")" * 150 + " > 1 and " + "not " * 30 + "b",
        "a == " + "[" * 80 + "]" * 80,
    ):
        with pytest.raises(ConditionError, match=r"deep|nested"):
            parse(deep)
    with pytest.raises(ConditionError, match="at most 24 steps"):
        parse(".".join("a" * 30) + " == 1")


def test_arguments_too_deep_to_compare_are_an_error_of_the_condition() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(ConditionError, match="nested too deeply"):
        holds(parse("a == b"), {"a": deep, "b": [deep[0]]})


def test_it_is_parsed_once() -> None:
    assert parse("cents > 5000") is parse("cents > 5000")


def test_an_argument_may_have_any_name() -> None:
    """What is no name to Python stands in brackets; `args` with a bracket is all arguments."""
    call = {"reply-to": "a@b", "in": 3, "args": {"x": 1, "y": True}, "order": {"unit price": {"cents": 5}}, "": 0}
    for text in (
        'args["reply-to"] == "a@b"',
        "args['in'] > 2 and len(args['reply-to']) == 3",
        'order["unit price"].cents == 5',
        'args["order"]["unit price"]["cents"] == 5',
        'args["args"]["x"] == 1 and args.x == 1 and args.y and args["args"].y',
        'args[""] == 0',
        '"unit price" in args["order"]',
    ):
        assert holds(parse(text), call) is True, text
    with pytest.raises(ConditionError, match="`x-y` is missing"):
        holds(parse('args["x-y"] > 1'), call)
    assert parse('args["reply-to"] == "x" and order["unit price"].cents > 1').paths == (
        ("reply-to",),
        ("order", "unit price", "cents"),
    )
    schema = {"type": "object", "properties": {"reply-to": {"type": "string"}}}
    assert unknown_names(parse('args["reply-to"] == "x" or args["replyto"] == "x"'), schema) == ("replyto",)


def test_it_names_what_it_reads() -> None:
    assert parse("cents > 1 and (order.total > 1 or len(tags) > 2) and cents < 9").paths == (
        ("cents",),
        ("order", "total"),
        ("tags",),
    )


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cents": {"type": "integer"},
        "order": {"$ref": "#/$defs/Order"},
        "either": {"anyOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}]},
        "free": {"type": "object", "additionalProperties": {"type": "integer"}},
        "open": {"type": "object"},
        "any": {},
        "never": False,
    },
    "$defs": {"Order": {"type": "object", "properties": {"total": {"type": "number"}}}},
}


@pytest.mark.parametrize("known", ["cents", "order.total", "either.total", "free.x", "open.x.y", "any.x"])
def test_a_schema_knows_these_names(known: str) -> None:
    assert unknown_names(parse(f"{known} == 1"), SCHEMA) == ()


@pytest.mark.parametrize("unknown", ["cent", "cents.x", "order.price", "either.price", "free.x.y", "never"])
def test_a_schema_denies_these_names(unknown: str) -> None:
    assert unknown_names(parse(f"{unknown} == 1"), SCHEMA) == (unknown,)


def test_a_schema_that_says_nothing_denies_nothing() -> None:
    assert unknown_names(parse("a.b == 1"), {}) == ()
    assert unknown_names(parse("a.b == 1"), {"type": "object", "properties": {}, "additionalProperties": True}) == ()
    assert unknown_names(parse("a == 1"), {"type": "object", "properties": {}}) == ("a",)


# --- laws -------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
WORDS = [
    "a",
    "b",
    "a.b",
    "c",
    "(",
    ")",
    "[",
    "]",
    ",",
    "and",
    "or",
    "not",
    "in",
    "is",
    "==",
    "!=",
    "<",
    ">=",
    "len",
    "1",
    "-1",
]
WORDS += [
    "'x'",
    "true",
    "null",
    "None",
    "1.5",
    ".",
    "if",
    "else",
    "lambda",
    ":",
    "*",
    "{",
    "}",
    "\\",
    "'",
    "#",
    "=",
    "f''",
]
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@given(TEXTS, st.dictionaries(st.sampled_from("abc"), JSON, max_size=3))
def test_any_text_parses_or_is_refused_and_then_answers_or_says_why_not(text: str, arguments: dict[str, Any]) -> None:
    answer: object = None
    refused: ConditionError | None = None
    try:
        answer = holds(parse(text), arguments)
    except ConditionError as error:
        refused = error
    assert answer in (True, False) if refused is None else 0 <= refused.column <= len(text) + 1


LEAVES = st.builds(
    lambda name, op, number: f"{name} {op} {number}",
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.integers(-3, 3),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=8,
)


@given(TREES, st.fixed_dictionaries({name: st.integers(-3, 3) for name in "abc"}))
def test_on_numbers_it_means_what_python_means(text: str, arguments: dict[str, int]) -> None:
    assert holds(parse(text), arguments) is eval(text, {}, dict(arguments))


@given(JSON, JSON)
def test_equality_is_that_of_json(left: Any, right: Any) -> None:
    try:
        equal = holds(parse("a == b"), {"a": left, "b": right})
    except ConditionError:
        assert type(left) is not type(right)
        return
    assert holds(parse("a != b"), {"a": left, "b": right}) is not equal
    if msgspec.json.encode(left, order="sorted") == msgspec.json.encode(right, order="sorted"):
        assert equal
