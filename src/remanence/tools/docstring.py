"""What a docstring says to a model: the text before its sections, and one line per parameter under `Args:`."""

from __future__ import annotations

import inspect
import re
from typing import Final

__all__ = ["read_docstring"]

_SECTION: Final = re.compile(
    r"(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?|Warnings?|See Also):\s*"
)
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description and, by parameter, what Google-style `Args:` says of it. Both may be empty."""
    description: list[str] = []
    arguments: list[str] = []
    section = ""
    for line in inspect.cleandoc(text).splitlines():
        found = _SECTION.fullmatch(line)
        if found:
            section = found.group(1)
        elif not section:
            description.append(line)
        elif section in ("Args", "Arguments", "Parameters"):
            arguments.append(line)
    return "\n".join(description).strip(), _entries(arguments)


def _entries(lines: list[str]) -> dict[str, str]:
    """Entries start at the section's own indentation; deeper lines continue the entry above."""
    found: dict[str, str] = {}
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    name = ""
    for line in lines:
        entry = _ENTRY.fullmatch(line.strip())
        if entry and len(line) - len(line.lstrip()) == min(indents):
            name = entry.group(1)
            found[name] = entry.group(2).strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
