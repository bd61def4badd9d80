"""Annotations that pydantic reads: its models, its `Field(...)`, and what msgspec has no words for.

Most annotations are read by msgspec. Those that carry something of pydantic's, however deep, go to pydantic whole:
msgspec would take `Annotated[int, Field(le=5000)]` as a plain integer, and a limit that is written but not kept is
worse than none. The same holds the other way: `msgspec.Meta` and msgspec's structs are refused where pydantic reads.

pydantic is imported when the first such annotation is met. It is strict about what JSON says, as msgspec is: a number
in quotes is no number.
"""

from __future__ import annotations

import collections.abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["PydanticKind", "is_field", "needs_pydantic", "whole"]

ERRORS_MAX: Final = 8
EXACT: Final = 2**53
"""Below it a float holds every whole number."""
_OWN: Final = ("pydantic", "pydantic_core", "annotated_types")
_MARKS: Final = ("__get_pydantic_core_schema__", "__pydantic_core_schema__", "__pydantic_validator__")
# pydantic would check these only while the tool goes through them: too late to refuse the call.
_LAZY: Final = (
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)


def is_field(value: object) -> bool:
    """Whether it is a pydantic `Field(...)`, which is a description of a value and no value."""
    return type(value).__name__ == "FieldInfo" and _module(type(value)) == "pydantic"


def needs_pydantic(annotation: Any) -> bool:
    """Whether something in it, at any depth, is pydantic's."""
    return any(_is_pydantics(at) for at in _within(annotation))


class PydanticKind:
    """One annotation, as pydantic reads it. Raises `TypeError` with the reason when it says nothing that JSON can."""

    def __init__(self, annotation: Any) -> None:
        for at in _within(annotation):
            _refuse(at)
        # Imported here: a project that uses none of it should not wait for it.
        from pydantic import PydanticUserError, TypeAdapter

        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            schema = self._adapter.json_schema(ref_template="#/$defs/{model}")
        except (PydanticUserError, TypeError, NameError, RecursionError) as error:
            raise TypeError(str(error).strip().splitlines()[0]) from None
        self.definitions: dict[str, Any] = schema.pop("$defs", {})
        self.schema: dict[str, Any] = schema

    def read(self, value: object) -> Any:
        """The value as the function takes it. Raises `pydantic.ValidationError` (see `complaints`)."""
        return self._adapter.validate_json(msgspec.json.encode(whole(value)), strict=True)

    def complaints(self, value: object, name: str) -> list[str]:
        """One clause for each thing that is wrong with it; none when it fits."""
        from pydantic import ValidationError

        try:
            self.read(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            clauses = (
                f"`{name}{_path(item['loc'], value, missing=item['type'] == 'missing')}`: {_lowered(item['msg'])}"
                for item in found
            )
            return list(dict.fromkeys(clauses))[:ERRORS_MAX]
        return []

    def written(self, default: object) -> object:
        """A default as JSON's values. Raises `ValueError` when a model could not send it."""
        value = self._adapter.dump_python(default, mode="json", by_alias=True, warnings="error")
        self.read(value)
        return value


def _refuse(at: Any) -> None:
    """Raises `TypeError` for what pydantic would drop in silence, or check too late."""
    if isinstance(at, type) and issubclass(at, msgspec.Struct):
        raise TypeError(f"it mixes pydantic with the msgspec Struct `{at.__name__}`, which pydantic does not know")
    if isinstance(at, msgspec.Meta):
        raise TypeError("it mixes pydantic with `msgspec.Meta`, which pydantic drops; say the same with `Field(...)`")
    if at in _LAZY or get_origin(at) in _LAZY:
        raise TypeError("what can be gone through only once cannot be checked before the call; take a list")


def whole(value: object) -> object:
    """Whole numbers as such: to JSON Schema 2.0 is one, and to pydantic and msgspec a number with a fraction."""
    if isinstance(value, list):
        return [whole(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: whole(item) for name, item in cast("dict[object, object]", value).items()}
    return int(value) if isinstance(value, float) and abs(value) < EXACT and value.is_integer() else value


def _path(places: tuple[int | str, ...], value: object, *, missing: bool) -> str:
    """Where it is wrong, without the names that pydantic gives to the arms of a union."""
    path, at = "", value
    for index, place in enumerate(places):
        if isinstance(at, list) and isinstance(place, int):
            items = cast("list[object]", at)
            path, at = f"{path}[{place}]", items[place] if place < len(items) else None
        elif isinstance(at, dict) and (place in at or (missing and index == len(places) - 1)):
            path, at = f"{path}.{place}", cast("dict[object, object]", at).get(place)
    return path


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- what an annotation is made of ------------------------------------------------------------------------------------


def _is_pydantics(at: object) -> bool:
    kind = at if isinstance(at, type) else type(at)
    return _module(kind) in _OWN or any(hasattr(kind, mark) for mark in _MARKS)


def _module(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _within(annotation: Any) -> Iterator[Any]:
    """The annotation and everything in it: arguments, what `Annotated` adds, the members of classes with members."""
    seen: set[int] = set()
    pending = [annotation]
    while pending:
        at = pending.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        if get_origin(at) is Annotated:
            pending += [at.__origin__, *at.__metadata__]
            continue
        pending += get_args(at)
        # A generic class, the type behind a `NewType` or a `type` statement, and what the members of a class are.
        behind = (get_origin(at), getattr(at, "__supertype__", None), getattr(at, "__value__", None))
        pending += [part for part in behind if part is not None]
        pending += _members(at).values()


def _members(at: Any) -> Mapping[str, Any]:
    if not isinstance(at, type) or not _has_members(at):
        return {}
    try:
        return get_type_hints(at, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        # A name that cannot be resolved is said by whoever reads the type, with the name.
        return {}


def _has_members(kind: Any) -> bool:
    # Not asked of `typing`: a TypedDict of `typing_extensions` is none to it before Python 3.13.
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__required_keys__"):
        return True
    # The members of a named tuple are annotated as those of the others are; a plain tuple has none.
    return issubclass(kind, msgspec.Struct) or (hasattr(kind, "_fields") and issubclass(kind, tuple))
