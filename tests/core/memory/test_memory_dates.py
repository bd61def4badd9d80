"""Moments that a question names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.memory.dates import DAY_US, nearness, periods


def micros(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000_000)


NOW = micros("2026-11-22T15:30:00")  # a Sunday


@pytest.mark.parametrize(
    ("question", "since", "until"),
    [
        ("What happened yesterday?", "2026-11-21", "2026-11-22"),
        ("Qu'a-t-elle dit hier ?", "2026-11-21", "2026-11-22"),
        ("avant-hier", "2026-11-20", "2026-11-21"),
        ("aujourd\u2019hui", "2026-11-22", "2026-11-23"),
        ("on 16 June, 2023", "2023-06-16", "2023-06-17"),
        ("on June 16th 2023", "2023-06-16", "2023-06-17"),
        ("le 1er mars 2024", "2024-03-01", "2024-03-02"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("in May 2025", "2025-05-01", "2025-06-01"),
        ("in December", "2025-12-01", "2026-01-01"),
        ("en août", "2026-08-01", "2026-09-01"),
        ("in 2022", "2022-01-01", "2023-01-01"),
        ("last week", "2026-11-09", "2026-11-16"),
        ("la semaine dernière", "2026-11-09", "2026-11-16"),
        ("last month", "2026-10-01", "2026-11-01"),
        ("l'année dernière", "2025-01-01", "2026-01-01"),
        ("three days ago", "2026-11-19", "2026-11-20"),
        ("il y a deux semaines", "2026-11-05", "2026-11-12"),
        ("last Friday", "2026-11-20", "2026-11-21"),
        ("last Sunday", "2026-11-15", "2026-11-16"),
        ("lundi dernier", "2026-11-16", "2026-11-17"),
    ],
)
def test_a_period_is_read(question: str, since: str, until: str) -> None:
    (period,) = periods(question, NOW)
    assert (period.since, period.until) == (micros(since), micros(until))


@pytest.mark.parametrize("question", ["May I march?", "31 June 2023", "about seven of them", "order 2023-99-99", ""])
def test_other_questions_name_none(question: str) -> None:
    assert periods(question, NOW) in ((), periods("2023", NOW))


def test_nearness_is_lenient_after_a_period() -> None:
    found = periods("16 June 2023", NOW)
    day = micros("2023-06-16")
    assert nearness(found, day) == nearness(found, day - DAY_US) == nearness(found, day + DAY_US) == 1.0
    assert 0 < nearness(found, day + 8 * DAY_US) < nearness(found, day + 4 * DAY_US) < 1
    assert nearness(found, day + 30 * DAY_US) == nearness(found, day - 9 * DAY_US) == 0.0


@given(st.text(), st.integers(0, 4_000_000_000_000_000))
def test_any_question_at_any_moment(question: str, now: int) -> None:
    for period in periods(question, now):
        assert period.since < period.until


@given(st.integers(0, 999), st.sampled_from(["days", "weeks", "months", "years"]))
def test_any_count_back(count: int, unit: str) -> None:
    for period in periods(f"{count} {unit} ago", NOW):
        assert period.since < period.until <= NOW + DAY_US * 400
