"""Whether the arguments of a call fit the tool's JSON Schema, asked before anybody is asked to approve them.

The part of JSON Schema that tools use: types, enumerations, required and additional properties, items, alternatives,
references within the schema, bounds of numbers and lengths. A keyword that is not known here demands nothing; a Python
tool checks its arguments once more, against its own types, when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = ["unfit"]

DEPTH_MAX = 64
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
    return _unfit(value, schema, schema, "", 0)


def _unfit(value: object, schema: Schema, root: Schema, path: str, depth: int) -> str | None:
    if depth > DEPTH_MAX:
        return f"{_place(path)} has too many levels"
    if "$ref" in schema:
        target = _target(str(schema["$ref"]), root)
        return None if target is None else _unfit(value, target, root, path, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            misfits = [_unfit(value, one, root, path, depth + 1) for one in schema[keyword]]
            if misfits and None not in misfits:
                return misfits[0] if len(misfits) == 1 else f"{_place(path)} fits none of the forms it may have"
    return (
        _wrong_type(value, schema, path)
        or _wrong_value(value, schema, path)
        or _wrong_inside(value, schema, root, path, depth)
    )


def _wrong_type(value: object, schema: Schema, path: str) -> str | None:
    declared = schema.get("type")
    if declared is None:
        return None
    names = [declared] if isinstance(declared, str) else list(cast("Sequence[str]", declared))
    if any(_is(value, name) for name in names):
        return None
    return f"{_place(path)} must be {' or '.join(names)}, not {_name_of(value)}"


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _wrong_value(value: object, schema: Schema, path: str) -> str | None:
    allowed: Sequence[object] | None = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None and value not in allowed:
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
    if low is not None and size < low:
        return f"{_place(path)} must be at least {low}{unit}"
    if high is not None and size > high:
        return f"{_place(path)} must be at most {high}{unit}"
    return None


def _wrong_inside(value: object, schema: Schema, root: Schema, path: str, depth: int) -> str | None:
    if isinstance(value, dict):
        return _wrong_property(cast("dict[str, object]", value), schema, root, path, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(cast("list[object]", value)):
            misfit = _unfit(item, schema["items"], root, f"{path}[{index}]", depth + 1)
            if misfit:
                return misfit
    return None


def _wrong_property(value: dict[str, object], schema: Schema, root: Schema, path: str, depth: int) -> str | None:
    properties: Schema = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{_place(_join(path, missing[0]))} is missing"
    for name, inner in value.items():
        if name in properties:
            expected = properties[name]
        else:
            expected = schema.get("additionalProperties", True)
            if expected is False:
                return f"{_place(_join(path, name))} is not an argument; there are {', '.join(properties) or 'none'}"
        if isinstance(expected, dict):
            misfit = _unfit(inner, cast("Schema", expected), root, _join(path, name), depth + 1)
            if misfit:
                return misfit
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


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(path: str) -> str:
    return f"`{path}`" if path else "the whole"


def _name_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, kinds in _TYPES.items() if isinstance(value, kinds)), type(value).__name__)
