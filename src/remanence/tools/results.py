"""What a tool gave back, as the model will read it. What cannot be shown is an error that says the tool did run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence, Set, ValuesView
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from remanence.content import File, Image, Part, Text
from remanence.ports import ToolOutcome

__all__ = ["failure", "outcome_of", "refusal"]

MESSAGE_MAX: Final = 4_000
_HOLD_ITEMS: Final = (Sequence, Set, ValuesView, deque)
# A `range` may be longer than any memory, and says more as what it is.
_NOT_OPENED: Final = (type, dict, list, tuple, set, frozenset, range)
_SHOWN = Text | Image | File


def failure(words: str) -> ToolOutcome:
    """An outcome the model treats as a failure. Cut to 4,000 characters, and always storable."""
    text = words if len(words) <= MESSAGE_MAX else f"{words[:MESSAGE_MAX]}... [cut]"
    return ToolOutcome((Text(text.encode(errors="replace").decode()),), error=True)


def refusal(words: str) -> ToolOutcome:
    """The same of a call that was not begun: nothing happened by this start of it."""
    return replace(failure(words), started=False)


def outcome_of(value: object) -> ToolOutcome:
    """The outcome a tool's return value stands for. Never raises: an unusable value is an outcome with `error`.

    Text, numbers, `None` ("done"), parts, lists with parts and text among them, a `ToolOutcome`, and whatever JSON can
    write.
    """
    try:
        return _outcome(value)
    except Exception as error:  # noqa: BLE001 - encoding runs code of the value's own type
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return failure(
            f"The tool ran, and its effects stand, but its result cannot be shown ({reason}). "
            "Do not call it again only to see the result."
        )


def _outcome(value: object) -> ToolOutcome:
    if isinstance(value, ToolOutcome):
        return ToolOutcome(_storable(value.parts), bool(value.error))
    if isinstance(value, Part):
        return ToolOutcome(_storable((value,)))
    items = tuple(cast("list[object]", value)) if isinstance(value, list | tuple) else ()
    if any(isinstance(item, Part) for item in items):
        # A caption beside a picture is text beside a picture: written as JSON, the picture would be lost on the model.
        shown = tuple(item if isinstance(item, Part) else Text(_text(item)) for item in items)
        return ToolOutcome(_storable(shown))
    return ToolOutcome((Text(_text(cast("object", value))),))


def _text(value: object) -> str:
    match value:
        case None:
            return "done"
        case str():
            text = str.__str__(value)
            text.encode()
            return text
        case bool():
            return "true" if value else "false"
        case int() | float() | PurePath():
            return str(value)
        case bytes() | bytearray() | memoryview():
            raise TypeError("bytes are not text: return a File or an Image part")
        case _:
            return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: object) -> object:
    """What msgspec does not know may know how to become plain data (as pydantic's models do), or may hold plain data.

    What can be gone through only once is left alone: to go through it is to run code, and perhaps without end.
    """
    plain: object = value
    opened: Any = value
    # What msgspec does know comes here only as the key of a dict, which cannot be a list or a dict in JSON.
    if not isinstance(value, _NOT_OPENED):
        dump = cast("Callable[..., Any] | None", getattr(value, "model_dump", None))
        if dump is not None:
            plain = dump(mode="json")
        elif isinstance(value, PurePath | IPv4Address | IPv6Address):
            plain = str(value)
        elif hasattr(opened, "keys"):
            # The rows of databases have keys, and are no `Mapping`.
            plain = dict(cast("Mapping[object, object]", opened))
        elif isinstance(value, _HOLD_ITEMS):
            plain = list(cast("Collection[object]", value))
    if plain is not value:
        return plain
    raise TypeError(f"a value of type {type(opened).__name__} cannot be written as JSON")


def _storable(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, proven to survive the journal: structs made in Python are not checked when they are made."""
    for part in parts:
        if not isinstance(part, _SHOWN):
            raise TypeError(f"a tool may show Text, Image and File parts, not {type(part).__name__}")
        if isinstance(part, Image | File) and sum(bool(source) for source in (part.url, part.data, part.blob)) != 1:
            raise ValueError(f"exactly one of url, data and blob must be set on {type(part).__name__}")
    return msgspec.json.decode(msgspec.json.encode(parts), type=tuple[Part, ...])
