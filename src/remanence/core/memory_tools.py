"""The tools through which an agent uses its memory: what the model reads of them, and which an agent gets.

They are built-ins that run: unlike a question or a timer they look something up, or write a fact that is journaled in
the same write as their outcome. So running one again after a crash repeats nothing, and all of them are `safe`.
"""

from __future__ import annotations

from typing import Any, Final

from remanence.spec import MemoryUse, ToolSpec

__all__ = ["MEMORY_BLOCK", "MEMORY_TOOLS", "tools_for"]

MEMORY_BLOCK: Final = "memory_block"
TEXT_CHARS_MAX: Final = 4_000
NAME_CHARS_MAX: Final = 64

_SCOPE: Final = {
    "type": "string",
    "enum": ["user", "session", "agent", "project"],
    "description": "Who shall know it: by default the person you talk with, in every session.",
}
_MEMORY: Final = {"type": "string", "description": "The id of the memory, as memory_search shows it."}
_SOURCE: Final = {
    "type": "string",
    "description": "The id of the memory it was learned from, when that is not what was just said.",
}
_DATE: Final = {"type": "string", "description": "A date or a moment, ISO 8601, such as 2031-05-01."}


def _spec(name: str, description: str, properties: dict[str, Any], required: tuple[str, ...]) -> ToolSpec:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return ToolSpec(name, description, parameters, kind="builtin", replay="safe", timeout_s=30.0)


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX, "description": description}


MEMORY_SEARCH: Final = _spec(
    "memory_search",
    "Search what was said in earlier sessions and what was noted. Each hit says where it comes from and why it fits.",
    {
        "query": _text("What to look for: a question, or the words, names and dates that matter."),
        "limit": {"type": "integer", "minimum": 1, "maximum": 20, "description": "How many hits; default 8."},
        "at": {**_DATE, "description": "Only what was true at this date (ISO 8601). Leave it out for now."},
    },
    ("query",),
)
MEMORY_OPEN: Final = _spec(
    "memory_open", "Read one memory whole, with its source and its earlier versions.", {"memory": _MEMORY}, ("memory",)
)
MEMORY_WRITE: Final = _spec(
    "memory_write",
    "Note a fact that is worth knowing in later sessions: one fact a note, complete enough to be understood alone.",
    {
        "text": _text("The fact, in one or two sentences, with names instead of pronouns."),
        "subjects": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 200},
            "maxItems": 10,
            "description": "Whom or what it is about.",
        },
        "scope": _SCOPE,
        "source": _SOURCE,
        "since": {**_DATE, "description": "Since when it is true (ISO 8601), when that is known."},
        "until": {**_DATE, "description": "Until when it is true (ISO 8601), when it ends."},
    },
    ("text",),
)
MEMORY_UPDATE: Final = _spec(
    "memory_update",
    "Correct a note, or say what has changed. With `since` the old text was true until then; without, it was wrong.",
    {
        "memory": _MEMORY,
        "text": _text("What is true now."),
        "source": _SOURCE,
        "since": {**_DATE, "description": "Since when the new text is true (ISO 8601), when the world has changed."},
    },
    ("memory", "text"),
)
MEMORY_FORGET: Final = _spec(
    "memory_forget",
    "Withdraw a memory: it is recalled no more. Use it when somebody asks for something to be forgotten.",
    {"memory": _MEMORY, "reason": {"type": "string", "maxLength": 200, "description": "Why, in a few words."}},
    ("memory",),
)
_BLOCK: Final = _spec(
    MEMORY_BLOCK,
    "Set a memory block: a short text that you see at the beginning of every session. An empty text removes it.",
    {
        "name": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "description": "Which block."},
        "text": {"type": "string", "maxLength": TEXT_CHARS_MAX, "description": "The whole new text of the block."},
        "scope": _SCOPE,
    },
    ("name", "text"),
)

MEMORY_TOOLS: Final[dict[str, ToolSpec]] = {
    spec.name: spec for spec in (MEMORY_SEARCH, MEMORY_OPEN, MEMORY_WRITE, MEMORY_UPDATE, MEMORY_FORGET, _BLOCK)
}
"""Every memory tool by its name."""


def tools_for(use: MemoryUse | None) -> tuple[ToolSpec, ...]:
    """The tools of an agent that uses memory so: to look things up, and to write when it may."""
    if use is None:
        return ()
    reading = (MEMORY_SEARCH, MEMORY_OPEN) if use.reads else ()
    return (*reading, MEMORY_WRITE, MEMORY_UPDATE, MEMORY_FORGET, _BLOCK) if use.writes else reading
