"""JSON Schemas as a model should read them: closed, without references where possible, and shown on one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

__all__ = ["closed", "closed_schemas", "shape", "unknown_members"]

SHAPE_MAX: Final = 1_000
_REF: Final = "#/$defs/"
# `title` repeats the type's name; `discriminator` points at definitions that are no longer apart.
_NOISE: Final = frozenset({"title", "discriminator"})
_HOLD_SCHEMAS: Final = frozenset(
    {"items", "prefixItems", "additionalProperties", "propertyNames", "anyOf", "oneOf", "allOf"}
)
_HOLD_NAMED: Final = frozenset({"properties", "patternProperties"})
_KINDS: Final[dict[type, str]] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def closed_schemas(annotations: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One schema per annotation, and the definitions that refer to themselves and must stay apart.

    Raises `TypeError` for a type that has no JSON Schema.
    """
    return closed(*msgspec.json.schema_components(annotations, ref_template=_REF + "{name}"))


def closed(schemas: Iterable[Any], definitions: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The same for schemas that somebody else made, with the definitions they refer to."""
    schemas = list(schemas)
    kept = {name: node for name, node in definitions.items() if name in _reachable(node, definitions)}
    tidy = [cast("dict[str, Any]", _tidy(schema, definitions, kept)) for schema in schemas]
    used = set[str]().union(*(_reachable(schema, definitions) for schema in schemas)) & kept.keys()
    return tidy, {name: _tidy(kept[name], definitions, kept) for name in sorted(used)}


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        yield from cast("Mapping[str, Any]", node).values()
    elif isinstance(node, list | tuple):
        yield from cast("list[Any]", node)


def _reachable(node: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The definitions that a schema refers to, directly or through others."""
    found: set[str] = set()
    pending = [node]
    while pending:
        at = pending.pop()
        if isinstance(at, Mapping):
            name = str(cast("Mapping[str, Any]", at).get("$ref", "")).removeprefix(_REF)
            if name in definitions and name not in found:
                found.add(name)
                pending.append(definitions[name])
        pending.extend(_children(at))
    return found


def _tidy(node: Any, definitions: Mapping[str, Any], kept: Mapping[str, Any]) -> Any:
    if isinstance(node, list | tuple):
        return [_tidy(item, definitions, kept) for item in cast("list[Any]", node)]
    if not isinstance(node, Mapping):
        return node
    given = dict(cast("Mapping[str, Any]", node))
    name = str(given.get("$ref", "")).removeprefix(_REF)
    if name in definitions and name not in kept:
        del given["$ref"]
        given = {**definitions[name], **given}
    tidy: dict[str, Any] = {}
    for key, value in given.items():
        if key in _HOLD_NAMED:
            tidy[key] = {name: _tidy(schema, definitions, kept) for name, schema in value.items()}
        elif key not in _NOISE:
            tidy[key] = _tidy(value, definitions, kept) if key in _HOLD_SCHEMAS else value
    return _completed(tidy)


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    values: list[object] = schema.get("enum", [])
    kinds: set[type] = {type(value) for value in values}
    if len(kinds) == 1 and "type" not in schema and (kind := _KINDS.get(kinds.pop())):
        schema = {"type": kind, **schema}
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
        if not schema.get("required", True):
            del schema["required"]
    return schema


# --- values against a schema ------------------------------------------------------------------------------------------


def unknown_members(value: Any, parameters: Mapping[str, Any]) -> list[str]:
    """One clause for each member, below the arguments themselves, that a closed object of the schema does not name."""
    if not isinstance(value, Mapping):
        return []
    properties: Mapping[str, Any] = parameters.get("properties", {})
    words: list[str] = []
    for name, member in cast("Mapping[str, Any]", value).items():
        if name in properties and isinstance(member, list | dict):
            words += [f"`{path}` is not known there" for path in _extra(member, properties[name], parameters, name)]
    return words


def _extra(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> list[str]:
    name = str(schema.get("$ref", "")).removeprefix(_REF)
    if name in root.get("$defs", {}):
        schema = root["$defs"][name]
    branches = cast("list[Mapping[str, Any]]", schema.get("anyOf") or schema.get("oneOf") or [])
    if branches:
        fitting = (_extra(value, branch, root, path) for branch in branches if _fits(value, branch, root))
        return min(fitting, key=len, default=list[str]())
    found: list[str] = []
    if isinstance(value, list):
        first: list[Mapping[str, Any]] = schema.get("prefixItems", [])
        for index, item in enumerate(cast("list[Any]", value)):
            of_item = first[index] if index < len(first) else schema.get("items")
            if isinstance(of_item, Mapping):
                found += _extra(item, cast("Mapping[str, Any]", of_item), root, f"{path}[{index}]")
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, member in cast("dict[str, Any]", value).items():
            if name in properties:
                found += _extra(member, properties[name], root, f"{path}.{name}")
            elif rest is False:
                found.append(f"{path}.{name}")
            elif isinstance(rest, Mapping):
                found += _extra(member, cast("Mapping[str, Any]", rest), root, f"{path}.{name}")
    return found


def _fits(value: Any, branch: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether a branch may be the one that is meant: of its kind, and by the members that only one branch can have."""
    name = str(branch.get("$ref", "")).removeprefix(_REF)
    branch = root.get("$defs", {}).get(name, branch)
    if isinstance(value, list):
        return branch.get("type") in (None, "array")
    if not isinstance(value, dict):
        return True
    members = cast("dict[str, Any]", value)
    told = {name: schema["const"] for name, schema in branch.get("properties", {}).items() if "const" in schema}
    return branch.get("type") in (None, "object") and all(
        members.get(name, word) == word for name, word in told.items()
    )


def shape(schema: Mapping[str, Any]) -> str:
    """The schema on one line, as people write types: `{order: string, cents: integer, note?: string}`."""
    text = _shape(schema, 0)
    return text if len(text) <= SHAPE_MAX else f"{text[:SHAPE_MAX]}..."


def _shape(schema: Any, depth: int) -> str:
    if not isinstance(schema, Mapping) or depth > 6:
        return "anything"
    node = cast("Mapping[str, Any]", schema)
    if "enum" in node:
        return " | ".join(msgspec.json.encode(value).decode() for value in node["enum"])
    if "const" in node:
        return msgspec.json.encode(node["const"]).decode()
    branches = node.get("anyOf") or node.get("oneOf")
    if branches:
        return " | ".join(_shape(branch, depth) for branch in branches)
    if "properties" in node:
        required = node.get("required", ())
        members = (
            f"{name}{'' if name in required else '?'}: {_shape(member, depth + 1)}"
            for name, member in node["properties"].items()
        )
        return "{" + ", ".join(members) + "}"
    if "prefixItems" in node:
        return f"[{', '.join(_shape(item, depth + 1) for item in node['prefixItems'])}]"
    if node.get("type") == "array":
        return f"[{_shape(node.get('items'), depth + 1)}]"
    if isinstance(node.get("additionalProperties"), Mapping):
        return f"{{any name: {_shape(node['additionalProperties'], depth + 1)}}}"
    return str(node.get("type") or str(node.get("$ref", "anything")).removeprefix(_REF))
