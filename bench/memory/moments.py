"""When a session was, as people write it: "1:56 pm on 8 May, 2023", "2023-05-08T13:56", "le 8 mai 2023", "8.5.2023"."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from remanence.core.memory.words import fold

__all__ = ["DAY_US", "SECOND_US", "moment_of"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEARS = range(1900, 2200)
_MILLISECONDS_FROM = 10**11

_MONTHS_NAMED = (
    *(("jan",), ("feb", "fev"), ("mar",), ("apr", "avr"), ("may", "mai"), ("jun", "juin")),
    *(("jul", "juil"), ("aug", "aou"), ("sep",), ("oct",), ("nov",), ("dec",)),
)
_MONTHS = {name: number for number, names in enumerate(_MONTHS_NAMED, 1) for name in names}
_MONTH = rf"({'|'.join(sorted(_MONTHS, key=len, reverse=True))})[a-z]*\.?"
_YEAR = r"(\d{4})"
_TIME = re.compile(r"\b(\d{1,2})[:h](\d\d)(?::(\d\d)(?:\.\d+)?)?\s*([ap])?\.?(?:m\b\.?)?")
_YEAR_FIRST = re.compile(rf"{_YEAR}\s*[-/.\u5e74]\s*(\d{{1,2}})\s*[-/.\u6708]\s*(\d{{1,2}})")
_DAY_NAMED = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th|er)?(?: of)?[ -]{_MONTH},?[ -]{_YEAR}")
_NAMED_DAY = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?,? {_YEAR}")
_NAMED_MONTH = re.compile(rf"\b{_MONTH},? {_YEAR}")
_NUMBERS = re.compile(rf"\b(\d{{1,2}})([/.-])(\d{{1,2}})[/.-]{_YEAR}")


def moment_of(value: object) -> int | None:
    """Microseconds since 1970, UTC; None for what is no moment between 1900 and 2199."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        text = fold(value).strip()
        return _exact(value.strip()) or _read(text)
    seconds = value / 1_000 if abs(value) >= _MILLISECONDS_FROM else value
    try:
        return _checked(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return None  # no number of seconds anybody means


def _exact(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _checked(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _checked(moment: datetime) -> int | None:
    return round(moment.timestamp()) * SECOND_US if moment.year in YEARS else None


def _read(text: str) -> int | None:
    day = _day(text)
    if day is None:
        return None
    hour, minute = 0, 0
    match = _TIME.search(text)
    if match is not None:
        hour, minute = int(match[1]), int(match[2])
        if match[4]:
            hour = hour % 12 + (12 if match[4] == "p" else 0)
    try:
        return _checked(datetime(*day, hour, minute, tzinfo=UTC))
    except ValueError:
        return None  # a 31st of June, or 25:00


def _day(text: str) -> tuple[int, int, int] | None:
    if match := _YEAR_FIRST.search(text):
        return int(match[1]), int(match[2]), int(match[3])
    if match := _DAY_NAMED.search(text):
        return int(match[3]), _MONTHS[match[2]], int(match[1])
    if match := _NAMED_DAY.search(text):
        return int(match[3]), _MONTHS[match[1]], int(match[2])
    if match := _NAMED_MONTH.search(text):
        return int(match[2]), _MONTHS[match[1]], 1
    if match := _NUMBERS.search(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        # 5/8/2023 is read as in America, as LoCoMo is from there, unless only the other way is a date.
        month_first = second > 12 or (match[2] == "/" and first <= 12)
        return (year, first, second) if month_first else (year, second, first)
    return None
