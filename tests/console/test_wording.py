"""The words of the console: complete in every language, each asked for, and written as the language does."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any, get_args

import pytest

import remanence.console
from remanence.console.timeline import State
from remanence.console.wording import LANGUAGES, catalogue, negotiated, wording
from remanence.events import KINDS

HOME = Path(str(remanence.console.__file__)).parent
SOURCES = [path.read_text() for kind in ("*.py", "templates/*.html") for path in HOME.glob(kind)]
KEY = r"[a-z_]+\.(?!html|svg|json|py)[A-Za-z0-9_]*[A-Za-z0-9]"


def asked_for() -> tuple[set[str], tuple[str, ...]]:
    """Keys that stand in the sources, and beginnings of keys that are put together there."""
    literal: set[str] = set()
    begun: set[str] = set()
    for source in SOURCES:
        literal |= set(re.findall(rf"""["']({KEY})["']""", source))
        begun |= set(re.findall(r"""["']([a-z_]+\.[a-z_]*)["'] [~+]""", source))
        begun |= set(re.findall(r"""f"([a-z_]+\.[a-z_]*)\{""", source))
        begun |= {f"{room}." for room in re.findall(r"""\bword\(["']([a-z_]+)["']""", source)}
    return literal, tuple(sorted(begun))


def fields(text: str) -> set[str]:
    """What a text wants to be filled with."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_is_there_and_asked_for(language: str) -> None:
    texts = catalogue(language)
    literal, begun = asked_for()
    rooms = {key.partition(".")[0] for key in texts}
    missing = {key for key in literal if key.partition(".")[0] in rooms} - texts.keys()
    unused = {key for key in texts if key not in literal and not key.startswith(begun)}
    assert not missing, f"asked for and not in {language}.toml: {sorted(missing)}"
    assert not unused, f"in {language}.toml and never asked for: {sorted(unused)}"


def test_the_languages_say_the_same() -> None:
    first = catalogue("en")
    for language in LANGUAGES:
        other = catalogue(language)
        assert other.keys() == first.keys()
        for key, forms in first.items():
            mine, theirs = _forms(forms), _forms(other[key])
            assert mine.keys() == theirs.keys(), key
            for form, text in mine.items():
                assert fields(text) == fields(theirs[form]), f"{language}: {key}"
                assert theirs[form].strip() == theirs[form] != "", f"{language}: {key}"


def _forms(forms: Any) -> dict[str, str]:
    return forms if isinstance(forms, dict) else {"": forms}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_event_and_every_state_has_a_name(language: str) -> None:
    """Whatever may stand in a row of a timeline. Steps and turns have names of their own."""
    texts = catalogue(language)
    rooms = {
        "Input",
        "Turn",
        "Model",
        "Tool",
        "Call",
        "Approval",
        "Question",
        "Timer",
        "CompactionBegun",
        "CompactionFailed",
    }
    notes = [kind for kind in KINDS if kind == "InputJoined" or not kind.startswith(tuple(rooms))]
    assert [kind for kind in notes if f"event.{kind}" not in texts] == []
    assert [state for state in get_args(State) if state and f"status.{state}" not in texts] == []


@pytest.mark.parametrize(
    ("language", "count", "expected"),
    [("en", 0, "0 tokens"), ("en", 1, "1 token"), ("en", 2, "2 tokens"), ("en", 12345, "12,345 tokens"),
     ("fr", 0, "0 jeton"), ("fr", 1, "1 jeton"), ("fr", 2, "2 jetons"), ("fr", 12345, "12\u202f345 jetons")],
)  # fmt: skip
def test_plural_forms(language: str, count: int, expected: str) -> None:
    assert wording(language)("session.tokens", count=count) == expected


@pytest.mark.parametrize(
    ("usd_micros", "english", "french"),
    [
        (0, "$0.00", "0,00\u00a0$"),
        (1, "$0.000001", "0,000001\u00a0$"),
        (12_300, "$0.0123", "0,0123\u00a0$"),
        (2_500_000, "$2.50", "2,50\u00a0$"),
        (-1_234_560_000, "\u2212$1,234.56", "\u22121\u202f234,56\u00a0$"),
    ],
)
def test_money(usd_micros: int, english: str, french: str) -> None:
    assert (wording("en").money(usd_micros), wording("fr").money(usd_micros)) == (english, french)


@pytest.mark.parametrize(
    ("seconds", "english", "french"),
    [
        (0.0124, "12 ms", "12 ms"),
        (3.14, "3.1 s", "3,1 s"),
        (75, "1 min 15 s", "1 min 15 s"),
        (3_600 * 26, "1 d 2 h", "1 j 2 h"),
        (3_600 * 3, "3 h", "3 h"),
        (86_400 * 1_500, "1,500 d", "1\u202f500 j"),
    ],
)
def test_durations(seconds: float, english: str, french: str) -> None:
    told = [wording(language).duration(int(seconds * 1_000_000)).replace("\u00a0", " ") for language in ("en", "fr")]
    assert told == [english, french]


def test_moments_carry_the_whole_time() -> None:
    at = 1_800_000_000_123_456
    told = str(wording("fr").at(at))
    assert 'datetime="2027-01-15T08:00:00.123456+00:00"' in told
    assert "15\u00a0janv.\u00a02027, 08:00:00 UTC" in told
    assert "il y a 2\u00a0min" in str(wording("fr").ago(at, at + 125_000_000))
    assert "3\u00a0h left" in str(wording("en").until(at + 3 * 3_600_000_000, at))


@pytest.mark.parametrize(
    ("header", "expected"),
    [("", "en"), ("fr-CH, fr;q=0.9, en;q=0.8", "fr"), ("de, en;q=0.5, fr;q=0.7", "fr"),
     ("fr;q=0, *", "en"), (";q=x", "en")],
)  # fmt: skip
def test_the_language_a_browser_likes_best(header: str, expected: str) -> None:
    assert negotiated(header) == expected


def test_what_people_wrote_is_never_markup() -> None:
    assert wording("en").rich("did.approve", name="<b>Eve</b>") == (
        "Approved, in the name of <b>&lt;b&gt;Eve&lt;/b&gt;</b>."
    )
