"""Whether the arguments of a call fit the tool's JSON Schema, asked before anybody is asked to approve them.

The part of JSON Schema that tools use: types, enumerations, required and additional properties, items, alternatives,
references within the schema, bounds of numbers and lengths. A keyword that is not known here, or whose value makes no
sense (schemas come from elsewhere too), demands nothing; a Python tool checks its arguments once more, against its own
types, when it runs. A schema that branches without end is given up after so many places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

__all__ = ["unfit"]

DEPTH_MAX = 64
PLACES_MAX = 20_000
Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def unfit(value: object, schema: Schema) -> str | None:
    """Why `value` does not fit, with the path of the place, as a clause a model can act on; None when it fits."""
    return _Look(schema).unfit(value, schema, "", 0)


class _Look:
    """One look at one value: the schema that references are resolved in, and how many places may still be looked at."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.places = PLACES_MAX

    def unfit(self, value: object, schema: Schema, path: str, depth: int) -> str | None:
        self.places -= 1
        if self.places < 0:
            return None
        if depth > DEPTH_MAX:
            return f"{_place(path)} has too many levels"
        if "$ref" in schema:
            target = _target(str(schema["$ref"]), self.root)
            return None if target is None else self.unfit(value, target, path, depth + 1)
        return (
            self._fits_none(value, schema, path, depth)
            or _wrong_type(value, schema, path)
            or _wrong_value(value, schema, path)
            or self._wrong_inside(value, schema, path, depth)
        )

    def _fits_none(self, value: object, schema: Schema, path: str, depth: int) -> str | None:
        for keyword in ("anyOf", "oneOf"):
            forms = _list(schema, keyword)
            misfits = [self.unfit(value, form, path, depth + 1) if _is_table(form) else None for form in forms]
            if misfits and None not in misfits:
                return misfits[0] if len(misfits) == 1 else f"{_place(path)} fits none of the forms it may have"
        return None

    def _wrong_inside(self, value: object, schema: Schema, path: str, depth: int) -> str | None:
        if isinstance(value, dict):
            return self._wrong_property(cast("dict[str, object]", value), schema, path, depth)
        items = schema.get("items")
        if isinstance(value, list) and _is_table(items):
            for index, item in enumerate(cast("list[object]", value)):
                misfit = self.unfit(item, items, f"{path}[{index}]", depth + 1)
                if misfit:
                    return misfit
        return None

    def _wrong_property(self, value: dict[str, object], schema: Schema, path: str, depth: int) -> str | None:
        declared = schema.get("properties")
        properties: Schema = declared if _is_table(declared) else {}
        missing = [name for name in _list(schema, "required") if isinstance(name, str) and name not in value]
        if missing:
            return f"{_place(_join(path, missing[0]))} is missing"
        for name, inner in value.items():
            expected = properties[name] if name in properties else schema.get("additionalProperties", True)
            if expected is False:
                return f"{_place(_join(path, name))} is not an argument; there are {', '.join(properties) or 'none'}"
            misfit = self.unfit(inner, expected, _join(path, name), depth + 1) if _is_table(expected) else None
            if misfit:
                return misfit
        return None


def _wrong_type(value: object, schema: Schema, path: str) -> str | None:
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else [n for n in _list(schema, "type") if isinstance(n, str)]
    if not names or any(_is(value, name) for name in names):
        return None
    return f"{_place(path)} must be {' or '.join(names)}, not {_name_of(value)}"


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean" or name not in _TYPES
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _wrong_value(value: object, schema: Schema, path: str) -> str | None:
    allowed = [schema["const"]] if "const" in schema else _list(schema, "enum")
    if allowed and value not in allowed:
        return f"{_place(path)} must be one of {', '.join(map(repr, allowed))}"
    match value:
        case bool():
            return None
        case int() | float():
            return _out_of_bounds(value, schema, path, ("minimum", "maximum"), "")
        case str():
            return _out_of_bounds(len(value), schema, path, ("minLength", "maxLength"), " characters long")
        case list():
            items = cast("list[object]", value)
            return _out_of_bounds(len(items), schema, path, ("minItems", "maxItems"), " items long")
        case _:
            return None


def _out_of_bounds(size: float, schema: Schema, path: str, names: tuple[str, str], unit: str) -> str | None:
    low, high = (schema.get(name) for name in names)
    if isinstance(low, int | float) and size < low:
        return f"{_place(path)} must be at least {low}{unit}"
    if isinstance(high, int | float) and size > high:
        return f"{_place(path)} must be at most {high}{unit}"
    return None


def _target(reference: str, root: Schema) -> Schema | None:
    if reference == "#":
        return root
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        if not isinstance(found, dict) or step not in found:
            return None
        found = cast("dict[str, Any]", found)[step]
    return cast("Schema", found) if isinstance(found, dict) else None


def _is_table(value: object) -> TypeGuard[Schema]:
    return isinstance(value, dict)


def _list(schema: Schema, keyword: str) -> list[object]:
    found = schema.get(keyword)
    return cast("list[object]", found) if isinstance(found, list) else []


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(path: str) -> str:
    return f"`{path}`" if path else "the whole"


def _name_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, kinds in _TYPES.items() if isinstance(value, kinds)), type(value).__name__)
