"""The tools that the runtime itself answers: what the model reads of them, and how their arguments are understood.

A built-in runs nowhere: `ask_human` becomes a question that waits for an input, `sleep_until` a timer. Both cost
nothing while they wait. The parsers raise `ValueError` with a clause a model can act on, and change nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from remanence.content import parse_arguments
from remanence.core.memory_tools import MEMORY_TOOLS
from remanence.spec import ToolSpec

__all__ = ["ANSWERED", "ASK_HUMAN", "BUILTINS", "OPEN_RESULT", "SLEEP_UNTIL", "parse_question", "parse_wake"]

OPTIONS_MAX: Final = 20
SLEEP_MAX_S: Final = 10 * 366 * 86_400
PAST_GRACE_S: Final = 3_600
"""A wake-up this little in the past comes at once; one further back is taken for a mistake about today's date."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS: Final = 1_000_000

ASK_HUMAN: Final = ToolSpec(
    name="ask_human",
    description=(
        "Ask a person a question and wait for the answer, however long it takes. "
        "Use it when only a person can know or decide; one question per call."
    ),
    parameters={
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "The question, complete enough to be answered on its own."},
            "options": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": OPTIONS_MAX,
                "description": "Answers to choose from, when there are only these. Leave it out for a free answer.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    kind="builtin",
    replay="safe",
)

SLEEP_UNTIL: Final = ToolSpec(
    name="sleep_until",
    description=(
        "Pause until a moment and then go on; it costs nothing while it waits. "
        "Give either `when` or `seconds`. Prefer `seconds` unless you know what time it is now."
    ),
    parameters={
        "type": "object",
        "properties": {
            "when": {
                "type": "string",
                "description": "When to wake up, ISO 8601 such as 2030-01-31T09:00:00+01:00. Without a zone it is UTC.",
            },
            "seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": SLEEP_MAX_S,
                "description": "How many seconds from now to wake up.",
            },
        },
        "additionalProperties": False,
    },
    kind="builtin",
    replay="safe",
)

OPEN_RESULT: Final = ToolSpec(
    name="open_result",
    description=(
        "Read again what is not shown whole any more: a result that was cut or cleared, a long input, or earlier turns "
        "that were summarised. With a query you get the passages that fit it; without one, a page."
    ),
    parameters={
        "type": "object",
        "properties": {
            "ref": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "What to open, as it was shown to you; turns:3-12 opens turns 3 to 12.",
            },
            "query": {"type": "string", "maxLength": 500, "description": "Words, names or numbers to look for in it."},
            "page": {"type": "integer", "minimum": 1, "description": "Which page, from 1; without a query."},
        },
        "required": ["ref"],
        "additionalProperties": False,
    },
    kind="builtin",
    replay="safe",
)
"""Who may have it (`core.context.reopening`) gets old bulky results cleared to a line, and long ones shown in part."""

ANSWERED: Final = frozenset((ASK_HUMAN.name, SLEEP_UNTIL.name))
"""The built-ins that the loop answers by itself. The others run, like any tool."""

BUILTINS: Final[dict[str, ToolSpec]] = {
    spec.name: spec for spec in (ASK_HUMAN, SLEEP_UNTIL, OPEN_RESULT, *MEMORY_TOOLS.values())
}
"""Every built-in tool by its name."""


def parse_question(arguments: str) -> tuple[str, tuple[str, ...]]:
    """The question and the answers to choose from (none: a free answer). Raises `ValueError`."""
    given = _known(ASK_HUMAN, arguments)
    question, options = given.get("question"), given.get("options")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` is required: a text that is not empty")
    if options is None:
        return question, ()
    choices: list[Any] = cast("list[Any]", options) if isinstance(options, list) else [None]
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError("`options` must be a list of texts that are not empty, or be left out")
    if len(choices) > OPTIONS_MAX:
        raise ValueError(f"`options` has {len(choices)} entries; at most {OPTIONS_MAX} can be chosen from")
    return question, tuple(dict.fromkeys(choices))


def parse_wake(arguments: str, now: int) -> int:
    """When to wake up, in microseconds since 1970-01-01 UTC; `now` is in the same unit. Raises `ValueError`."""
    given = _known(SLEEP_UNTIL, arguments)
    when, seconds = given.get("when"), given.get("seconds")
    if (when is None) == (seconds is None):
        raise ValueError("give exactly one of `when` (a date and time) and `seconds` (a number)")
    due_at = _moment(when, now) if seconds is None else now + _duration(seconds)
    if due_at > now + SLEEP_MAX_S * _MICROS:
        raise ValueError(f"`when` is more than ten years away; it is now {_iso(now)}")
    return max(due_at, now)


def _known(spec: ToolSpec, arguments: str) -> dict[str, Any]:
    given = parse_arguments(arguments)
    known: list[str] = list(spec.parameters["properties"])
    unknown = [f"`{name}`" for name in given if name not in known]
    if unknown:
        raise ValueError(f"{spec.name} does not take {', '.join(unknown)}; its arguments are {', '.join(known)}")
    return given


def _duration(seconds: Any) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("`seconds` must be a number, such as 3600")
    if not 0 <= seconds <= SLEEP_MAX_S:
        raise ValueError(f"`seconds` must lie between 0 and {SLEEP_MAX_S} (ten years)")
    return round(seconds * _MICROS)


def _moment(when: Any, now: int) -> int:
    try:
        moment = datetime.fromisoformat(when.strip() if isinstance(when, str) else "")
    except ValueError:
        raise ValueError("`when` must be a date and time in ISO 8601, such as 2030-01-31T09:00:00+01:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at = (moment - _EPOCH) // timedelta(microseconds=1)
    if at < now - PAST_GRACE_S * _MICROS:
        raise ValueError(f"`when` is in the past; it is now {_iso(now)}")
    return at


def _iso(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="seconds")
