"""Moments that a question names: "yesterday", "last week", "in May 2023", "le 16 juin", "il y a trois jours".

Each becomes a *period* in UTC. Nobody says in which time zone they mean a day, and what happened on a day is often told
on the next, so whoever looks at a period is lenient around it (see `nearness`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec

from remanence.core.memory.words import fold

__all__ = ["DAY_US", "Period", "nearness", "periods"]

DAY_US = 86_400_000_000
LENIENT_DAYS = 14
"""How long after a period what is said may still be about it."""
_EPOCH = date(1970, 1, 1)

_MONTHS_NAMED = (
    ("january", "janvier"),
    ("february", "fevrier"),
    ("march", "mars"),
    ("april", "avril"),
    ("may", "mai"),
    ("june", "juin"),
    ("july", "juillet"),
    ("august", "aout"),
    ("september", "septembre"),
    ("october", "octobre"),
    ("november", "novembre"),
    ("december", "decembre"),
)
_MONTHS = {name: number for number, names in enumerate(_MONTHS_NAMED, 1) for name in names}
_WEEKDAYS_NAMED = (
    ("monday", "lundi"),
    ("tuesday", "mardi"),
    ("wednesday", "mercredi"),
    ("thursday", "jeudi"),
    ("friday", "vendredi"),
    ("saturday", "samedi"),
    ("sunday", "dimanche"),
)
_WEEKDAYS = {name: number for number, names in enumerate(_WEEKDAYS_NAMED) for name in names}
_ONES = {"a": 1, "an": 1, "one": 1, "un": 1, "une": 1}
_NUMBERS = {
    **_ONES,
    **{
        name: n
        for n, names in enumerate((("two", "deux"), ("three", "trois"), ("four", "quatre")), 2)
        for name in names
    },
    **{name: n for n, names in enumerate((("five", "cinq"), ("six", "six"), ("seven", "sept")), 5) for name in names},
}
_UNITS = {"day": 1, "jour": 1, "week": 7, "semaine": 7, "month": 30, "mois": 30, "year": 365, "an": 365, "annee": 365}

_MONTH = "|".join(_MONTHS)
_WEEKDAY = "|".join(_WEEKDAYS)
_COUNT = rf"(\d{{1,3}}|{'|'.join(_NUMBERS)})"
_UNIT = r"(day|week|month|year|jour|semaine|mois|annee|an)s?"


class Period(msgspec.Struct, frozen=True, order=True):
    """From `since` to before `until`, microseconds since 1970 UTC; `words` is what was said in the question."""

    since: int
    until: int
    words: str = ""


def periods(question: str, now: int) -> tuple[Period, ...]:
    """The periods a question names, as seen from `now` (microseconds); none for most questions."""
    text = fold(question)
    today = datetime.fromtimestamp(now / 1e6, UTC).date()
    found: list[Period] = []
    for pattern, read in _PATTERNS:
        for match in pattern.finditer(text):
            span = read(match, today)
            if span is not None:
                found.append(_period(*span, match[0]))
        text = pattern.sub(" ", text)  # what was read is not read again: "16 June 2023" is no "June"
    return tuple(sorted(found))


def nearness(found: tuple[Period, ...], at: int) -> float:
    """How well a moment fits: 1.0 within a period or on the day around it, less after it, 0.0 far from it."""
    best = 0.0
    for period in found:
        if period.since - DAY_US <= at < period.until + DAY_US:
            return 1.0
        late = (at - period.until) / DAY_US
        if 0 <= late < LENIENT_DAYS:
            best = max(best, 1.0 - late / LENIENT_DAYS)
    return best


# --- how each form is read --------------------------------------------------------------------------------------------

Span = tuple[date, date]


def _period(first: date, after: date, words: str) -> Period:
    return Period((first - _EPOCH).days * DAY_US, (after - _EPOCH).days * DAY_US, words.strip())


def _day(year: int, month: int, day: int) -> Span | None:
    try:
        first = date(year, month, day)
    except ValueError:
        return None  # a 31st of June names no day
    return first, first + timedelta(days=1)


def _month(year: int, month: int) -> Span:
    first = date(year, month, 1)
    return first, date(year + month // 12, month % 12 + 1, 1)


def _last_year_with(today: date, month: int, day: int = 1) -> int:
    """The year in which a date without one came last."""
    return today.year if (month, day) <= (today.month, today.day) else today.year - 1


def _iso(match: re.Match[str], _today: date) -> Span | None:
    return _day(int(match[1]), int(match[2]), int(match[3]))


def _day_month(match: re.Match[str], today: date) -> Span | None:
    day, month = int(match[1]), _MONTHS[match[2]]
    return _day(int(match[3]) if match[3] else _last_year_with(today, month, day), month, day)


def _month_day(match: re.Match[str], today: date) -> Span | None:
    month, day = _MONTHS[match[1]], int(match[2])
    return _day(int(match[3]) if match[3] else _last_year_with(today, month, day), month, day)


def _month_year(match: re.Match[str], _today: date) -> Span:
    return _month(int(match[2]), _MONTHS[match[1]])


def _bare_month(match: re.Match[str], today: date) -> Span:
    month = _MONTHS[match[1]]
    return _month(_last_year_with(today, month), month)


def _year(match: re.Match[str], _today: date) -> Span:
    return date(int(match[1]), 1, 1), date(int(match[1]) + 1, 1, 1)


def _ago(match: re.Match[str], today: date) -> Span:
    """The day itself for days; for longer units the stretch of one unit around it."""
    unit = _UNITS[match[2]]
    count = int(match[1]) if match[1].isdigit() else _NUMBERS[match[1]]
    day = today - timedelta(days=min(count * unit, 36_500))
    return day - timedelta(days=unit // 2), day + timedelta(days=unit // 2 + 1)


def _last_unit(match: re.Match[str], today: date) -> Span:
    """The calendar's week, month or year before this one."""
    if _UNITS[match[1]] == 7:
        monday = today - timedelta(days=today.weekday())
        return monday - timedelta(days=7), monday
    if _UNITS[match[1]] == 30:
        before = today.replace(day=1) - timedelta(days=1)
        return _month(before.year, before.month)
    return date(today.year - 1, 1, 1), date(today.year, 1, 1)


def _last_weekday(match: re.Match[str], today: date) -> Span:
    back = (today.weekday() - _WEEKDAYS[match[1]] - 1) % 7 + 1
    return today - timedelta(days=back), today - timedelta(days=back - 1)


def _days_back(back: int) -> Callable[[re.Match[str], date], Span]:
    return lambda _, today: (today - timedelta(days=back), today - timedelta(days=back - 1))


def _patterns() -> Iterator[tuple[re.Pattern[str], Callable[[re.Match[str], date], Span | None]]]:
    year = r"((?:19|20|21)\d\d)"
    yield re.compile(rf"\b{year}-(\d\d)-(\d\d)\b"), _iso
    yield re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th|er)?(?: of)? ({_MONTH})\b(?:,? {year}\b)?"), _day_month
    yield re.compile(rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? {year}\b)?"), _month_day
    yield re.compile(rf"\b({_MONTH})(?: of| de)?,? {year}\b"), _month_year
    yield re.compile(rf"\b(?:in|during|since|en|depuis|last|early|late|mid|debut|fin) ({_MONTH})\b"), _bare_month
    yield re.compile(rf"\b{year}\b"), _year
    yield re.compile(rf"\b{_COUNT} {_UNIT} ago\b"), _ago
    yield re.compile(rf"\bil y a {_COUNT} {_UNIT}\b"), _ago
    yield re.compile(r"\blast (week|month|year)\b"), _last_unit
    yield re.compile(r"\b(?:la |le |l'|l’)?(semaine|mois|an|annee) (?:derniere?|passee?)\b"), _last_unit
    yield re.compile(rf"\b(?:last |on )({_WEEKDAY})\b"), _last_weekday
    yield re.compile(rf"\b({_WEEKDAY}) (?:dernier|passe)\b"), _last_weekday
    yield re.compile(r"\bday before yesterday\b|\bavant-hier\b"), _days_back(2)
    yield re.compile(r"\byesterday\b|\blast night\b|\bhier\b"), _days_back(1)
    yield re.compile(r"\btoday\b|\bthis (?:morning|afternoon)\b|\baujourd.?hui\b"), _days_back(0)


_PATTERNS = tuple(_patterns())
