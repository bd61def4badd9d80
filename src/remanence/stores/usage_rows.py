"""What was spent, as every backend counts it: the amounts of a call, the fields they are summed by, hours and days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from remanence.content import Usage
from remanence.errors import InvalidInput
from remanence.ports import Summary, UsageQuery, UsageRow

__all__ = [
    "DAY_US",
    "HOUR_US",
    "UsageEntry",
    "amounts_of",
    "check_fields",
    "day_of",
    "group_of",
    "hour_of",
    "row_of_sums",
    "under",
    "whole_days",
]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
_FIELDS = ("agent", "user", "model", "project", "session", "day")

UsageEntry = tuple[int, Summary, str, Usage, int | None]
"""When it was, the session, the model, the tokens, and what it cost in micro-USD (None: nobody knows)."""


def under(user: str, entries: Sequence[UsageEntry]) -> Sequence[UsageEntry]:
    """The entries of a session under the name that its user has by now: it may be another since they were read."""
    return [(at, replace(summary, user=user), model, used, cost) for at, summary, model, used, cost in entries]


def group_of(entry: UsageEntry) -> tuple[object, ...]:
    """What its hour is counted by: the hour, the model, the agent, the user, the project."""
    at, summary, model, _, _ = entry
    return hour_of(at), model, summary.agent, summary.user, summary.project


def amounts_of(entry: UsageEntry) -> tuple[int, ...]:
    """What is added up: whether the price is unknown, micro-USD, then the tokens of each kind."""
    _, _, _, usage, cost = entry
    return (
        int(cost is None),
        cost or 0,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def check_fields(query: UsageQuery) -> None:
    """Raises InvalidInput when it sums by a field there is not."""
    unknown = [field for field in query.by if field not in _FIELDS]
    if unknown:
        raise InvalidInput(
            f"Usage cannot be summed by {', '.join(unknown)}; it can by {', '.join(_FIELDS)}. Nothing was read.",
            param="by",
        )


def row_of_sums(by: Sequence[str], row: Sequence[Any], *, day_us: int) -> UsageRow:
    """A sum: its keys, of which a day counts `day_us` microseconds for one, then calls, tokens, micro-USD, unpriced."""
    width = len(by)
    named = zip(by, row[:width], strict=True)
    key = tuple(day_of(value * day_us) if field == "day" else value for field, value in named)
    calls, *tokens, usd_micros, unpriced = row[width:]
    return UsageRow(key, calls, Usage(*tokens), usd_micros, unpriced)


def hour_of(at: int) -> int:
    """The first microsecond of the hour `at` lies in."""
    return at - at % HOUR_US


def whole_days(query: UsageQuery) -> str | None:
    """The one field besides the day and the project that a sum over whole days goes by (empty: none); None: it is no
    such sum."""
    named = [each for each in query.by if each not in ("day", "project")]
    known = all(each in ("agent", "user", "model") for each in named)
    if not known or len(named) > 1 or (query.since is not None and query.since % DAY_US):
        return None
    return named[0] if named else ""


def day_of(at: int) -> str:
    """The day (UTC) `at` lies in, as `2026-01-31`."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).date().isoformat()
