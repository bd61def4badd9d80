"""The tools that the runtime answers itself: arguments understood, or refused with words a model can act on."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.builtins import BUILTINS, parse_question, parse_wake
from remanence.core.memory_tools import MEMORY_TOOLS

NOW = 1_900_000_000_000_000
"""2030-03-17T17:46:40Z, in microseconds."""


def written(**arguments: Any) -> str:
    return msgspec.json.encode(arguments).decode()


def test_a_question_may_have_options() -> None:
    assert parse_question(written(question="Which one?")) == ("Which one?", ())
    assert parse_question(written(question="Which one?", options=None)) == ("Which one?", ())
    assert parse_question(written(question="Which one?", options=["red", "blue", "red"])) == (
        "Which one?",
        ("red", "blue"),
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "`question` is required"),
        (written(question=" "), "`question` is required"),
        (written(question=5), "`question` is required"),
        (written(question="?", options="red"), "`options` must be a list"),
        (written(question="?", options=["red", ""]), "`options` must be a list"),
        (written(question="?", options=[1]), "`options` must be a list"),
        (written(question="?", options=[str(i) for i in range(21)]), "at most 20"),
        (written(question="?", choices=[]), "does not take `choices`; its arguments are question, options"),
        ("[]", "must be a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_a_bad_question_says_what_is_wrong(arguments: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_question(arguments)


@pytest.mark.parametrize(
    ("arguments", "due_at"),
    [
        (written(seconds=0), NOW),
        (written(seconds=90), NOW + 90_000_000),
        (written(seconds=0.25), NOW + 250_000),
        (written(seconds=60, when=None), NOW + 60_000_000),
        (written(when="2030-03-17T17:46:41Z"), NOW + 1_000_000),
        (written(when="2030-03-17T17:46:41"), NOW + 1_000_000),
        (written(when=" 2030-03-17T19:46:41+02:00 "), NOW + 1_000_000),
        (written(when="2030-03-17 17:46:40.5"), NOW + 500_000),
        (written(when="2030-03-18"), 1_900_022_400_000_000),
        (written(when="2030-03-17T17:00:00Z"), NOW),
    ],
)
def test_a_wake_up_is_a_moment_or_a_duration(arguments: str, due_at: int) -> None:
    assert parse_wake(arguments, NOW) == due_at


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{}", "exactly one of `when`"),
        (written(seconds=1, when="2031-01-01"), "exactly one of `when`"),
        (written(seconds="60"), "`seconds` must be a number"),
        (written(seconds=True), "`seconds` must be a number"),
        (written(seconds=-1), "between 0 and"),
        (written(seconds=1e300), "between 0 and"),
        ('{"seconds": 1' + "0" * 400 + "}", "between 0 and"),
        (written(when="tomorrow"), "ISO 8601"),
        (written(when=5), "ISO 8601"),
        (written(when="2023-03-17T09:00:00Z"), "in the past; it is now 2030-03-17T17:46:40"),
        (written(when="9999-01-01"), "more than ten years away"),
        (written(until="2031-01-01"), "does not take `until`"),
    ],
)
def test_a_bad_wake_up_says_what_is_wrong(arguments: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_wake(arguments, NOW)


def test_the_schemas_name_what_the_parsers_take() -> None:
    assert set(BUILTINS) == {"ask_human", "sleep_until", "open_result", *MEMORY_TOOLS}
    for name, spec in BUILTINS.items():
        assert spec.name == name
        assert spec.kind == "builtin"
        assert not spec.writes
        assert spec.parameters["additionalProperties"] is False


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_any_date_is_a_moment_or_refused(moment: datetime) -> None:
    try:
        due_at = parse_wake(written(when=moment.isoformat()), NOW)
    except ValueError:
        return
    assert NOW <= due_at <= NOW + 10 * 366 * 86_400_000_000
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert due_at == max(NOW, exact)


@given(
    st.dictionaries(
        st.sampled_from(["when", "seconds", "question", "options", "x"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_any_arguments_are_understood_or_refused(arguments: dict[str, Any]) -> None:
    for parse in (parse_question, lambda text: parse_wake(text, NOW)):
        with suppress(ValueError):
            parse(written(**arguments))
