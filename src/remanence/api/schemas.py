"""JSON Schemas that clients declare, judged before anything is written: a provider would refuse them in mid-turn.

What no draft of JSON Schema allows is refused, with the path of the keyword; so is a reference into the schema that
leads nowhere. What drafts differ about passes, as do keywords that nobody knows, and patterns, whose dialects differ.
Nobody here follows a reference to elsewhere. With `strict`, what the vendor demands of a schema to which it holds a
model is demanded here: `additionalProperties` false and everything required, in every object. What else its strict mode
does not take is the provider's to say.

A look costs as much as the schema is long, and a request may hold so many schemas in all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

from remanence.errors import InvalidInput

__all__ = ["PLACES_MAX", "Declared", "InvalidParameters", "InvalidSchema", "check_schemas"]

PLACES_MAX = 50_000
PATH_MAX = 200
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


class InvalidSchema(InvalidInput):
    """The schema of an output is none that a model can be held to."""

    code = "invalid_json_schema"


class InvalidParameters(InvalidInput):
    """The schema of a function's arguments is none."""

    code = "invalid_function_parameters"


class Declared(NamedTuple):
    """A schema of a request, where it lies in it, and whether a model is to be held to it."""

    schema: Mapping[str, Any]
    path: str
    strict: bool = False
    error: type[InvalidInput] = InvalidParameters


_Place = tuple["_Place", str | int] | None
"""The steps into a schema, the last one first; written out only when there is something to say about it."""


def _path(place: _Place) -> str:
    if place is None:
        return ""
    before, step = place
    return f"{_path(before)}[{step}]" if isinstance(step, int) else f"{_path(before)}.{step}"


class _Wrong(Exception):
    """What is wrong, and where."""

    def __init__(self, place: _Place, words: str) -> None:
        super().__init__(words)
        self.place = place
        self.words = words


def check_schemas(declared: list[Declared]) -> None:
    """Raise what each of them says that it deserves, with the path of what is wrong with the first that is."""
    left = PLACES_MAX
    for one in declared:
        try:
            left = _check(one, left)
        except _Wrong as wrong:
            path = f"{one.path}{_path(wrong.place)}"
            path = path if len(path) <= PATH_MAX else f"{path[:PATH_MAX]}..."
            raise one.error(f"{path}: {wrong.words}. Nothing was written.", param=path) from None


def _check(declared: Declared, left: int) -> int:
    """How many more places may be looked at after this schema."""
    root, moved, references = declared.schema, False, list[tuple[_Place, str]]()
    if declared.strict:
        _check_root(root)
    pending: list[tuple[_Place, Any]] = [(None, root)]
    while pending:
        place, schema = pending.pop()
        left -= 1
        if left < 0:
            raise _Wrong(None, f"the schemas of a request hold at most {PLACES_MAX:,} schemas in all")
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, dict):
            raise _Wrong(place, "a schema is expected: an object, true or false")
        known = cast("dict[str, Any]", schema)
        for word, value in known.items():
            if word in _FORMS:
                if wrong := _FORMS[word](value):
                    raise _Wrong((place, word), wrong)
            elif word in _HOLDERS:
                pending += islice(_HOLDERS[word]((place, word), value), left + 1)
        if declared.strict:
            _check_strict(known, place)
        moved = moved or (place is not None and ("$id" in known or "id" in known))
        if "$ref" in known:
            references.append(((place, "$ref"), known["$ref"]))
    if not moved:  # what names itself is what its references start from
        _check_references(references, root)
    return left


# --- keywords ---------------------------------------------------------------------------------------------------------


def _is(kinds: type | tuple[type, ...], words: str) -> Callable[[Any], str | None]:
    def judge(value: Any) -> str | None:
        fits = isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))
        return None if fits else f"{words} is expected"

    return judge


def _count(value: Any) -> str | None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return None if whole and value >= 0 else "a whole number, 0 or more, is expected"


def _step(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return None if fits else "a number over 0 is expected"


def _bound(value: Any) -> str | None:
    return None if isinstance(value, int | float) else "a number is expected"


def _names(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in cast("list[Any]", value)):
        return "a list of texts is expected"
    names = cast("list[str]", value)
    return None if len(set(names)) == len(names) else "a name is there twice"


def _names_by_name(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "an object of lists of texts is expected"
    return next(filter(None, map(_names, cast("dict[str, Any]", value).values())), None)


def _type(value: Any) -> str | None:
    if isinstance(value, str) and value in _TYPES:
        return None
    names = cast("list[Any]", value) if isinstance(value, list) else [value]
    odd = [name for name in names if name not in _TYPES]
    if odd or not names:
        shown = repr(odd[0])[:60] if odd and isinstance(odd[0], str) else "this"
        return f"{shown} is none of {', '.join(_TYPES[:-1])} and {_TYPES[-1]}, and no list of them"
    return None if len(set(names)) == len(names) else "a type is there twice"


_TEXT, _TRUTH, _NUMBER, _LIST = (
    _is(str, "a text"),
    _is(bool, "true or false"),
    _is((int, float), "a number"),
    _is(list, "a list"),
)
_FORMS: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys(("$ref", "$id", "$schema", "$anchor", "$dynamicRef", "$dynamicAnchor", "$comment"), _TEXT),
    **dict.fromkeys(("title", "description", "format", "pattern", "contentEncoding", "contentMediaType"), _TEXT),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _TRUTH),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains"), _count),
    **dict.fromkeys(("minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minimum", "maximum"), _NUMBER),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _bound),  # draft 4 has true and false there
    **dict.fromkeys(("enum", "examples"), _LIST),
    "multipleOf": _step,
    "required": _names,
    "dependentRequired": _names_by_name,
    "type": _type,
}
"""Keywords and what is wrong with a value of theirs, in words."""


# --- schemas in schemas -----------------------------------------------------------------------------------------------

_Inner = Iterator[tuple[_Place, Any]]


def _one(place: _Place, value: Any) -> _Inner:
    yield place, value


def _some(place: _Place, value: Any) -> _Inner:
    if not isinstance(value, list) or not value:
        raise _Wrong(place, "a list of schemas is expected, of one at least")
    yield from (((place, number), schema) for number, schema in enumerate(cast("list[Any]", value)))


def _one_or_some(place: _Place, value: Any) -> _Inner:
    return _some(place, value) if isinstance(value, list) else _one(place, value)


def _named(place: _Place, value: Any) -> _Inner:
    if not isinstance(value, dict):
        raise _Wrong(place, "an object of schemas is expected")
    yield from (((place, name), schema) for name, schema in cast("dict[str, Any]", value).items())


def _dependencies(place: _Place, value: Any) -> _Inner:
    for inner, schema in _named(place, value):
        if not isinstance(schema, list):
            yield inner, schema
        elif wrong := _names(schema):
            raise _Wrong(inner, wrong)


_HOLDERS: dict[str, Callable[[_Place, Any], _Inner]] = {
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems", "additionalItems"), _one),
    **dict.fromkeys(("propertyNames", "contains", "not", "if", "then", "else", "contentSchema"), _one),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _some),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"), _named),
    "items": _one_or_some,  # several, one for each place, before the draft of 2020
    "dependencies": _dependencies,
}
"""Keywords that hold schemas."""


# --- references, and what strict means --------------------------------------------------------------------------------


def _check_references(references: list[tuple[_Place, str]], root: Mapping[str, Any]) -> None:
    for place, reference in references:
        if reference.startswith("#/") and not _leads_somewhere(reference, root):
            raise _Wrong(place, f"there is nothing at {reference[:60]!r} in this schema")


def _leads_somewhere(reference: str, root: Mapping[str, Any]) -> bool:
    found: Any = root
    for step in unquote(reference).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = cast("dict[str, Any]", found)[name]
        elif isinstance(found, list) and re.fullmatch("[0-9]{1,9}", name) and int(name) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(name)]
        else:
            return False
    return isinstance(found, dict | bool)


def _check_root(schema: Mapping[str, Any]) -> None:
    if "anyOf" in schema:
        raise _Wrong((None, "anyOf"), "with `strict` the whole is one object, not one of several things")
    if "$ref" not in schema and schema.get("type") != "object":
        raise _Wrong((None, "type"), "with `strict` the whole is an object: it has to be 'object'")


def _check_strict(schema: dict[str, Any], place: _Place) -> None:
    kinds = schema.get("type")
    properties: dict[str, Any] = schema.get("properties", {})
    if not properties and kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        return
    if schema.get("additionalProperties") is not False:
        raise _Wrong((place, "additionalProperties"), "with `strict` it has to be there, and to be false")
    required = set(cast("list[str]", schema.get("required", ())))
    missing = next((name for name in properties if name not in required), None)
    if missing is not None:
        words = f"with `strict` it has to name every property; {missing[:60]!r} is not there"
        raise _Wrong((place, "required"), words)
