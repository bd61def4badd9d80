"""Identifiers, and the one line that stands for a bulky result whose time is over.

What later steps need of an old result is hardly ever its prose; it is the names in it: order numbers, customer ids,
addresses, amounts. So a cleared result leaves a line that says what it was, which names it held, and where it can be
opened again. The line is a function of the result alone: the same result is the same line for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from remanence.content import Message, Part, Text, ToolResult, text_of
from remanence.core.context.entries import Entry, entry_of

__all__ = ["CLEAR_BYTES", "OPEN_RESULT", "identifiers", "names_in", "ref_of", "shown_of", "stub_of"]

OPEN_RESULT: Final = "open_result"
"""The tool that opens again what is not shown. An agent that may not have it is shown everything."""
CLEAR_BYTES: Final = 1_024
"""Results up to this size are never cleared: the line would hardly be shorter."""
NAMES_MAX: Final = 24
_VALUE_MAX: Final = 80

_APART: Final = r"\s\"'`,;(){}\[\]<>|="
_WORD: Final = re.compile(rf"(?<![^{_APART}])[^{_APART}\d@_]*+[\d@_][^{_APART}]*+")
"""Words with a digit, `@` or `_` in them: all others name nothing, and are passed over without being looked at."""
_HINT: Final = re.compile(r"[\d@_]")
_TRIM: Final = ".:!?*#"


def identifiers(text: str) -> list[str]:
    """The words of a text that name something: with a digit and a letter, a long number, an address. In order, once."""
    if _HINT.search(text) is None:
        return []  # most of what is said names nothing, and this is asked for all of it
    found = (word.strip(_TRIM) for word in _WORD.findall(text))
    return list(dict.fromkeys(word for word in found if _names(word)))


def _names(word: str) -> bool:
    """Whether a word is one that nobody could guess: that is what makes losing it expensive."""
    if not 3 <= len(word) <= _VALUE_MAX:
        return False
    digits = sum(map(str.isdigit, word))
    if digits >= 3 or (digits and any(map(str.isalpha, word)) and not word.isalpha()):
        return True
    return "@" in word[1:-1] or "_" in word[1:-1]


def names_in(text: str) -> list[tuple[str, str]]:
    """What a result names: pairs of a label (empty when it has none) and a value, in order, each value once."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = text
    found: dict[str, str] = {}
    for label, leaf in _leaves(value, ""):
        for name in identifiers(leaf):
            found.setdefault(name, label if name == leaf else "")
    return [(label, name) for name, label in found.items()]


def _leaves(value: Any, label: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _leaves(inner, label)
    elif isinstance(value, str):
        yield label, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield label, str(value)


def ref_of(call: str, position: int) -> str:
    """How a result is named to the model: the call, and the record it came in."""
    return f"{call}@{position}"


def shown_of(parts: tuple[Part, ...], shown: int, position: int) -> tuple[Part, ...]:
    """An input of which the model is shown the first `shown` bytes of text; what is no text stays."""
    made: list[Part] = []
    for part in parts:
        if not isinstance(part, Text):
            made.append(part)
            continue
        whole = part.text.encode()
        text = whole[:shown].decode(errors="ignore")
        if len(whole) > shown:
            ref = ref_of("input", position)
            text += f'\n[cut: {shown:,} of {len(whole):,} bytes shown; open_result(ref="{ref}") shows the rest]'
        shown = max(0, shown - len(whole))
        made.append(Text(text))
    return tuple(made)


def stub_of(entry: Entry, cleared: int) -> Entry:
    """What stands in the window for this message when results up to `cleared` are cleared: itself, or one line."""
    if not 0 < entry.position <= cleared or entry.tokens_max <= CLEAR_BYTES:
        return entry
    part = entry.message.parts[0]
    if not isinstance(part, ToolResult) or not all(isinstance(inner, Text) for inner in part.parts):
        return entry
    stub = entry_of(Message("tool", (ToolResult(part.call, part.name, (Text(_line(part, entry)),), part.error),)))
    return stub if stub.tokens_max < entry.tokens_max else entry


def _line(part: ToolResult, entry: Entry) -> str:
    text = text_of(part.parts)
    named = [f"{label}={name}" if label else name for label, name in names_in(text)]
    shown = f"; it named {', '.join(named[:NAMES_MAX])}" if named else ""
    more = f" and {len(named) - NAMES_MAX} more" if len(named) > NAMES_MAX else ""
    ref = ref_of(part.call, entry.position)
    return f'[cleared: {len(text):,} characters{shown}{more}; open_result(ref="{ref}") shows it again]'
