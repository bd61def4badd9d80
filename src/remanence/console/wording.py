"""Words in the reader's language: catalogues, plural forms, and how numbers, money and time are written.

A catalogue is one TOML file per language under `words/`. A key names a place (`nav.home`); a table with `one` and
`other` is a text in two plural forms, chosen by `count`. Texts are filled with `{name}`. The languages have the same
keys, and a key nobody asks for is an error of the tests, as is one that is missing.

Numbers are written by hand for these languages: the tables of all languages of the world would be larger than the rest
of the package. Times are written in UTC here; the page's script writes them again in the zone of the browser.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, cast

from markupsafe import Markup, escape

__all__ = ["LANGUAGES", "Wording", "catalogue", "negotiated", "wording"]

LANGUAGES = {"en": "English", "fr": "Français"}
"""Languages by their code, each under its own name."""

_MICROS = 1_000_000
_LAST = 253_402_300_799 * _MICROS
"""The end of the year 9999: what a journal from elsewhere says is later is no reason for a page to fail."""
_THIN = "\N{NARROW NO-BREAK SPACE}"
_HARD = "\N{NO-BREAK SPACE}"
Forms = str | dict[str, str]


@cache
def catalogue(language: str) -> dict[str, Forms]:
    """Every text of a language by its key; plural texts as a mapping of forms."""
    text = files("remanence.console").joinpath("words", f"{language}.toml").read_text(encoding="utf-8")
    found: dict[str, Forms] = {}
    for room, texts in tomllib.loads(text).items():
        for key, forms in cast("dict[str, Forms]", texts).items():
            found[f"{room}.{key}"] = _set(forms) if language == "fr" else forms
    return found


def _set(forms: Forms) -> Forms:
    """French puts a space before what ends a clause, which must not end a line."""
    if isinstance(forms, dict):
        return {form: str(_set(text)) for form, text in forms.items()}
    return re.sub(r" (?=[:;?!»])|(?<=«) ", _HARD, forms)


@cache
def wording(language: str) -> Wording:
    """The words of a language."""
    return Wording(language)


def negotiated(header: str) -> str:
    """The language that an `Accept-Language` header likes best, among ours."""
    wishes: list[tuple[float, str]] = []
    for part in header.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            wishes.append((float(weight or 1), tag.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    wishes.sort(key=lambda wish: -wish[0])
    return next((tag for weight, tag in wishes if weight > 0 and tag in LANGUAGES), "en")


class Wording:
    """Texts, numbers, money and times in one language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)
        self._point = "," if language == "fr" else "."
        self._group = _THIN if language == "fr" else ","

    def __call__(self, key: str, /, **values: object) -> str:
        """The text under a key, filled. Numbers among the values are written as the language does."""
        forms = self._texts[key]
        if isinstance(forms, dict):
            forms = forms[self._form(cast("int", values["count"]))]
        return forms.format(**{name: self._shown(value) for name, value in values.items()}) if values else forms

    def has(self, key: str) -> bool:
        """Whether there is such a text: for words of the journal that a later release may add to."""
        return key in self._texts

    def word(self, room: str, value: str) -> str:
        """The name of a value of the journal (a status, a kind) in this language, or the value itself."""
        key = f"{room}.{value}"
        return self(key) if key in self._texts else value

    def _form(self, count: int) -> str:
        few = abs(count) < 2 if self.language == "fr" else count == 1
        return "one" if few else "other"

    def _shown(self, value: object) -> object:
        return self.number(value) if isinstance(value, int) and not isinstance(value, bool) else value

    # --- numbers ------------------------------------------------------------------------------------------------------

    def number(self, value: int) -> str:
        """A whole number, grouped: 12,345 or 12 345."""
        return f"{value:,}".replace(",", self._group)

    def decimal(self, value: float, places: int = 1) -> str:
        """A number with decimals."""
        whole, _, rest = f"{value:,.{places}f}".partition(".")
        return whole.replace(",", self._group) + (f"{self._point}{rest}" if rest else "")

    def money(self, usd_micros: int) -> str:
        """An amount of micro-USD in dollars: with cents, and as many places more as small amounts need."""
        amount = abs(usd_micros)
        places = 2 if amount >= _MICROS or amount % 10_000 == 0 else 4 if amount >= 10_000 or amount % 100 == 0 else 6
        text = self.decimal(amount / _MICROS, places)
        sign = "\N{MINUS SIGN}" if usd_micros < 0 else ""
        return f"{sign}{text}{_HARD}$" if self.language == "fr" else f"{sign}${text}"

    def bytes(self, size: int) -> str:
        """A size."""
        unit = "o" if self.language == "fr" else "B"
        for prefix, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
            if size >= factor:
                return f"{self.decimal(size / factor)}{_HARD}{prefix}{unit}"
        return f"{self.number(size)}{_HARD}{unit}"

    def share(self, part: int, whole: int) -> str:
        """A part of a whole, in percent."""
        percent = self.decimal(100 * part / whole if whole else 0, 0)
        return f"{percent}{_HARD}%" if self.language == "fr" else f"{percent}%"

    # --- time ---------------------------------------------------------------------------------------------------------

    def duration(self, micros: int, *, exact: bool = True) -> str:
        """How long something took, in the two largest units; otherwise in one."""
        seconds = max(0, micros) / _MICROS
        if seconds < 1:
            return f"{self.number(round(seconds * 1000))}{_HARD}ms"
        if seconds < 60:
            return f"{self.decimal(seconds, 1 if seconds < 10 else 0)}{_HARD}s"
        for large, small, size in (("min", "s", 60), ("h", "min", 3600), (self("time.day"), "h", 86_400)):
            if seconds < size * (60 if size < 3600 else 24 if size == 3600 else 10**9):
                rest = int(seconds % size * (24 if size == 86_400 else 60) / size)
                return f"{self.number(int(seconds // size))}{_HARD}{large}" + (
                    f" {rest}{_HARD}{small}" if rest and exact else ""
                )
        raise AssertionError("days have no end")

    def ago(self, at: int, now: int) -> Markup:
        """How long ago a moment was, with the moment itself for whoever points at it."""
        text = self("time.now") if now - at < _MICROS else self("time.ago", span=self.duration(now - at, exact=False))
        return self._time(at, text, "ago")

    def until(self, at: int, now: int) -> Markup:
        """In how long a moment comes."""
        text = self("time.over") if at <= now else self("time.until", span=self.duration(at - now, exact=False))
        return self._time(at, text, "until")

    def at(self, at: int, form: str = "full") -> Markup:
        """A moment: `full` with the day, `clock` without it."""
        moment = _moment(at)
        clock = moment.strftime("%H:%M:%S")
        months = self("time.months").split()
        day = f"{moment.day}{_HARD}{months[moment.month - 1]}{_HARD}{moment.year}"
        return self._time(at, clock if form == "clock" else f"{day}, {clock} UTC", form)

    def _time(self, at: int, text: str, form: str) -> Markup:
        iso = _moment(at).isoformat(timespec="microseconds")
        return Markup('<time datetime="{}" title="{}" data-form="{}">{}</time>').format(iso, iso, form, text)

    # --- lists --------------------------------------------------------------------------------------------------------

    def listed(self, names: Sequence[str]) -> str:
        """Names in a row."""
        if len(names) < 2:
            return "".join(names)
        return f"{', '.join(names[:-1])} {self('time.and')} {names[-1]}"

    def rich(self, key: str, /, **values: Any) -> Markup:
        """A text with values in bold, escaped."""
        marked = {name: Markup("<b>{}</b>").format(self._shown(value)) for name, value in values.items()}
        forms = self._texts[key]
        if isinstance(forms, dict):
            forms = forms[self._form(cast("int", values["count"]))]
        return Markup(str(escape(forms))).format(**marked)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0), _LAST) / _MICROS, UTC)
