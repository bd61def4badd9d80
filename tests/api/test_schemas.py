"""JSON Schemas that clients declare: what is none is refused before anything is written, with its path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft4Validator, Draft7Validator, Draft201909Validator, Draft202012Validator
from wire_server import KEY, WireServer, serve

from remanence.api.schemas import PLACES_MAX, Declared, InvalidParameters, InvalidSchema, check_schemas
from remanence.errors import InvalidInput

SUM: Any = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED: Any = {**SUM, "required": ["a"], "additionalProperties": False}


def wrong(schema: Any, *, strict: bool = False) -> str | None:
    """The path of what is wrong with a schema."""
    try:
        check_schemas([Declared(schema, "s", strict)])
    except InvalidInput as error:
        return error.param
    return None


# --- what a schema is -------------------------------------------------------------------------------------------------


def _with(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas and what is nearly one, of the keywords of the newest draft."""
    odd = st.sampled_from([None, True, "object", 5, -1, 1.5, 2.0, [], {}, ["a", "a"], ["a"], [5], "strin"])
    named = st.dictionaries(st.sampled_from(["a", "b", "type"]), inner, max_size=2)
    several = st.lists(inner, max_size=2)
    forms: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["object", "string", ["string", "null"], ["null", "null"], "any", [], None]),
        **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"), named | odd),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several | odd),
        **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames", "contentSchema"), inner | odd),
        **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems"), inner | odd),
        **dict.fromkeys(("items",), inner | odd.filter(lambda one: not isinstance(one, list))),
        **dict.fromkeys(("minimum", "maximum", "multipleOf", "minLength", "maxItems", "minProperties"), odd),
        **dict.fromkeys(("exclusiveMinimum",), odd.filter(lambda one: not isinstance(one, bool))),
        **dict.fromkeys(("required", "enum", "examples", "uniqueItems", "deprecated", "readOnly"), odd),
        **dict.fromkeys(("title", "description", "$comment", "const", "default", "x-mine"), odd),
        "dependentRequired": st.dictionaries(st.sampled_from("ab"), odd, max_size=2) | odd,
        "dependencies": st.dictionaries(st.sampled_from("ab"), inner | st.just(["a"]), max_size=2),
    }
    return st.lists(st.sampled_from(sorted(forms)), max_size=3, unique=True).flatmap(
        lambda words: st.fixed_dictionaries({word: forms[word] for word in words})
    )


SCHEMAS = st.recursive(st.booleans() | st.just({}), _with, max_leaves=6)


@given(_with(SCHEMAS))
def test_what_the_draft_says_is_said_here(schema: Any) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        assert wrong(schema) is not None
    else:
        assert wrong(schema) is None


@pytest.mark.parametrize("draft", [Draft4Validator, Draft7Validator, Draft201909Validator, Draft202012Validator])
def test_the_schemas_of_the_drafts_pass(draft: Any) -> None:
    assert wrong(draft.META_SCHEMA) is None


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "integr"}, ".type"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, ".properties.a.type"),
        ({"anyOf": [{}, {"minLength": "5"}]}, ".anyOf[1].minLength"),
        ({"items": [{}, 5]}, ".items[1]"),
        ({"$defs": {"a": {"required": True}}}, ".$defs.a.required"),
        ({"$ref": "#/$defs/gone"}, ".$ref"),
        ({"anyOf": [{"$ref": "#/anyOf/" + "9" * 5_000}]}, ".anyOf[0].$ref"),
        ({"properties": {"a": {"$ref": "#/properties/a/type"}, "type": {}}}, ".properties.a.$ref"),
        # what is right in some draft, or not ours to say
        ({"$ref": "#"}, None),
        ({"$ref": "#/%24defs/a~1b", "$defs": {"a/b": {}}}, None),
        ({"anyOf": [{"$ref": "https://127.0.0.1:1/nobody.json"}, {"$ref": "#anchor"}]}, None),
        ({"$defs": {"a": {"$id": "urn:x", "$defs": {"b": {}}, "$ref": "#/$defs/b"}}}, None),
        ({"items": [{"type": "string"}], "additionalItems": False, "exclusiveMinimum": True}, None),
        ({"pattern": "(", "nullable": True, "enum": [], "const": {"type": "nothing"}}, None),
    ],
)
def test_where_it_is_wrong(schema: Any, place: str | None) -> None:
    assert wrong(schema) == (None if place is None else f"s{place}")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (CLOSED, None),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED, {"type": ["object", "null"]}]}}},
         ".properties.a.anyOf[1].additionalProperties"),
        (SUM, ".additionalProperties"),
        ({**CLOSED, "additionalProperties": {}}, ".additionalProperties"),
        ({**CLOSED, "required": []}, ".required"),
        ({**CLOSED, "$defs": {"b": SUM}}, ".$defs.b.additionalProperties"),
        ({"type": "string"}, ".type"),
        ({"anyOf": [CLOSED]}, ".anyOf"),
        ({"$ref": "#/$defs/b", "$defs": {"b": CLOSED}}, None),
        ({"type": "object", "additionalProperties": False}, None),
    ],
)  # fmt: skip
def test_what_strict_demands(schema: Any, place: str | None) -> None:
    assert wrong(schema, strict=True) == (None if place is None else f"s{place}")


def test_what_is_huge_costs_little() -> None:
    nested: Any = {}
    for _ in range(90):
        nested = {"properties": {"a": nested}}
    assert wrong(nested) is None
    wide: list[Any] = [{"anyOf": [{}] * 3_000_000}, {"properties": {str(n): {} for n in range(PLACES_MAX)}}]
    wide.append({"$defs": {"a": {}}, "allOf": [{"$ref": "#/$defs/a"}] * 1_000_000})
    for schema in wide:
        began = time.process_time()
        assert wrong(schema) == "s"
        assert time.process_time() - began < 2
    with pytest.raises(InvalidParameters):  # of all of them together
        check_schemas([Declared({"allOf": [{}] * (PLACES_MAX // 3)}, f"tools[{n}]") for n in range(4)])


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    with serve(tmp_path_factory.mktemp("schemas") / "a.db") as made:
        yield made


@pytest.fixture
def http(server: WireServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as made:
        yield made


def form(schema: Any, **more: Any) -> Any:
    shape = {"type": "json_schema", "name": "n", "schema": schema, **more}
    return "/v1/responses", {"model": "scripted", "input": "hello", "text": {"format": shape}}


def function(parameters: Any, **more: Any) -> Any:
    tools = [{"type": "function", "name": "look", "parameters": parameters, **more}]
    return "/v1/responses", {"model": "scripted", "input": "hello", "tools": tools}


def chat(**more: Any) -> Any:
    return "/v1/chat/completions", {
        "model": "scripted",
        "messages": [{"role": "user", "content": "hello"}],
        **more,
    }


def chat_form(schema: Any, **more: Any) -> Any:
    shape = {"name": "n", "schema": schema, **more}
    return chat(response_format={"type": "json_schema", "json_schema": shape})


def chat_function(parameters: Any, **more: Any) -> Any:
    return chat(tools=[{"type": "function", "function": {"name": "look", "parameters": parameters, **more}}])


def agent(**more: Any) -> Any:
    return "/v1/agents/sessions", {"agent": {"model": "scripted", **more}, "environment": {"type": "none"}}


ODD: Any = {"type": "object", "properties": {"a": {"type": "integr"}}}
LOOK: Any = {"type": "function", "name": "look", "description": "Look."}


@pytest.mark.parametrize(
    ("request_", "param", "code"),
    [
        (form(ODD), "text.format.schema.properties.a.type", InvalidSchema.code),
        (form(SUM, strict=True), "text.format.schema.additionalProperties", InvalidSchema.code),
        (form("object"), "text.format.schema", "invalid_type"),
        (form(SUM, name="a b"), "text.format.name", "invalid_value"),
        (function(ODD), "tools[0].parameters.properties.a.type", InvalidParameters.code),
        (function(SUM, strict=True), "tools[0].parameters.additionalProperties", InvalidParameters.code),
        (chat_form(ODD), "response_format.json_schema.schema.properties.a.type", InvalidSchema.code),
        (chat_form(SUM, strict=True), "response_format.json_schema.schema.additionalProperties", InvalidSchema.code),
        (chat_form(SUM, name="a b"), "response_format.json_schema.name", "invalid_value"),
        (chat_function(ODD), "tools[0].function.parameters.properties.a.type", InvalidParameters.code),
        (chat_function({**CLOSED, "required": []}, strict=True), "tools[0].function.parameters.required",
         InvalidParameters.code),
        (agent(text={"format": {"type": "json_schema", "schema": ODD}}), "agent.text.format.schema.properties.a.type",
         InvalidSchema.code),
        (agent(tools=[{**LOOK, "parameters": ODD}]), "agent.tools[0].parameters.properties.a.type",
         InvalidParameters.code),
        (form(SUM), None, None),
        (form(CLOSED, strict=True), None, None),
        (function(CLOSED, strict=True), None, None),
        (function(None, strict=True), None, None),
        (chat_form(CLOSED, strict=True), None, None),
        (chat_function(SUM), None, None),
        (agent(tools=[{**LOOK, "parameters": SUM}]), None, None),
    ],
)  # fmt: skip
def test_it_is_refused_before_anything_is_written(http: httpx2.Client, request_: Any, param: Any, code: Any) -> None:
    path, body = request_
    before = _sessions(http)
    answer = http.post(path, json=body)
    if param is None:
        assert answer.status_code in (200, 201), answer.text
        return
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert _sessions(http) == before


def _sessions(http: httpx2.Client) -> int:
    return len(http.get("/admin/v1/sessions", params={"limit": 100}).json()["data"])
