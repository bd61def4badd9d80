"""What a docstring says to a model: the text around its sections, and one line per parameter.

Three ways of writing one are read: a section `Args:` (Google), a section underlined with dashes (NumPy), and fields
such as `:param order: ...` (Sphinx). What a tool returns or raises is for the people who read its code, and left out.
"""

from __future__ import annotations

import inspect
import re
from typing import Final

__all__ = ["read_docstring"]

_PARAMETERS: Final = frozenset(
    {"Args", "Arguments", "Params", "Parameters", "Keyword Args", "Keyword Arguments", "Other Parameters"}
)
_TITLES: Final = (
    "|".join(sorted(_PARAMETERS)) + "|Returns?|Yields?|Raises|Warns|Examples?|Notes?|Warnings?|References|See Also"
)
_SECTION: Final = re.compile(rf"({_TITLES}):\s*")
_UNDERLINED: Final = re.compile(rf"({_TITLES})\s*")
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_ENTRY: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_FIELD: Final = re.compile(
    r":(?P<kind>param|parameter|arg|argument|key|keyword|type|returns?|rtype|raises?|except|exception|yields?|ytype)"
    r"(?P<what>[^:]*):\s*(?P<text>.*)"
)
_FIELDS_OF_PARAMETERS: Final = ("param", "parameter", "arg", "argument", "key", "keyword")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description and, by parameter, what is said of it. Both may be empty."""
    lines = inspect.cleandoc(text).splitlines()
    lines, numpy = _numpy(lines)
    lines, google = _google(lines)
    lines, sphinx = _sphinx(lines)
    return "\n".join(lines).strip(), {**sphinx, **numpy, **google}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """Sections end where the next begins, and where a line stands as far left as the title while others did not."""
    outside: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    inside: list[str] | None = None
    for line in lines:
        found = _SECTION.fullmatch(line)
        if found:
            inside = []
            sections.append((found.group(1), inside))
        elif inside is not None and line.strip() and not _indent(line) and any(map(_indent, inside)):
            inside = None
            outside.append(line)
        else:
            (outside if inside is None else inside).append(line)
    entries: dict[str, str] = {}
    for title, body in sections:
        if title in _PARAMETERS:
            entries.update(_entries(body))
    return outside, entries


def _entries(lines: list[str]) -> dict[str, str]:
    """Entries start at the section's own indentation; deeper lines continue the entry above."""
    found: dict[str, str] = {}
    indents = [_indent(line) for line in lines if line.strip()]
    name = ""
    for line in lines:
        entry = _ENTRY.fullmatch(line.strip())
        if entry and _indent(line) == min(indents):
            name = entry.group(1)
            found[name] = entry.group(2).strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _numpy(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    outside: list[str] = []
    entries: dict[str, str] = {}
    title, names = "", list[str]()
    for at, line in enumerate(lines):
        if title and re.fullmatch(r"-{3,}\s*", line) and _UNDERLINED.fullmatch(lines[at - 1]):
            continue
        found = _UNDERLINED.fullmatch(line)
        if found and at + 1 < len(lines) and re.fullmatch(r"-{3,}\s*", lines[at + 1]):
            title, names = found.group(1), []
        elif not title:
            outside.append(line)
        elif title in _PARAMETERS and line.strip():
            entry = None if _indent(line) else _NUMPY_ENTRY.fullmatch(line.strip())
            if entry:
                names = [name.strip(" *") for name in entry.group(1).split(",")]
            elif _indent(line):
                for name in names:
                    entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
    return outside, entries


def _sphinx(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """A field goes on in the lines below it that are indented."""
    outside: list[str] = []
    entries: dict[str, str] = {}
    name: str | None = None
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field:
            told = field["what"].split() if field["kind"] in _FIELDS_OF_PARAMETERS else []
            name = told[-1].strip("*") if told else ""
            if name:
                entries[name] = field["text"].strip()
        elif name is not None and (not line.strip() or _indent(line)):
            if name and line.strip():
                entries[name] = f"{entries[name]} {line.strip()}".strip()
        else:
            name = None
            outside.append(line)
    return outside, entries
