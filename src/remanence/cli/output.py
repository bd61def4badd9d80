"""Printing: tables for people, JSON for programs, and nothing that could play tricks on a terminal.

What a model, a tool or a stranger wrote is cleaned before it reaches a terminal: escape sequences and characters that
reorder a line are shown as what they are. A call that waits for approval must look like the one that will run.
JSON is UTF-8 whatever the locale says. Colours appear only on a terminal and never when NO_COLOR is set.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from typing import IO, Any, Literal, TextIO, cast

import click

from remanence.errors import InvalidInput

__all__ = [
    "Format",
    "NotPrinted",
    "bold",
    "clean",
    "counted",
    "clock_time",
    "dim",
    "facts",
    "moment",
    "note",
    "prints_aside",
    "red",
    "say",
    "shortened",
    "show",
    "stdout",
    "sure",
    "table",
    "usd",
]

Format = Literal["table", "json", "jsonl"]
_MICROS = 1_000_000
_REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}


class NotPrinted(click.ClickException):
    """Stdout did not take an answer: its disk is full, say."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"The answer could not be written to stdout ({error.strerror}). What the command did is done, and what was "
            "acknowledged is kept."
        )

    def show(self, file: IO[Any] | None = None) -> None:
        """Said as errors of ours are."""
        click.echo(f"remanence: {self.message}", file=file)


# --- answers ----------------------------------------------------------------------------------------------------------

_ours: list[TextIO] = []
"""Stdout, while what is printed in other ways is sent elsewhere."""


@contextmanager
def prints_aside() -> Generator[None]:
    """Meanwhile what other people's code prints (an agent's file, a tool) goes to stderr: stdout is for the answer."""
    _ours.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _ours.pop()


def stdout() -> TextIO:
    """Where answers go."""
    return _ours[-1] if _ours else sys.stdout


def show(answer: Any, output: Format, as_table: Callable[[], None]) -> None:
    """Print an answer: as JSON, as one JSON value a line (of a list: one for each entry), or as the table says."""
    if output == "table":
        as_table()
        return
    import msgspec

    if output == "json":
        lines = [msgspec.json.format(msgspec.json.encode(answer), indent=2)]
    else:
        entries = cast("list[Any]", answer) if isinstance(answer, list) else [answer]
        lines = [msgspec.json.encode(entry) for entry in entries]
    with _to_stdout():
        stdout().flush()
        stdout().buffer.write(b"".join(line + b"\n" for line in lines))
        stdout().buffer.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Aligned columns, numbers to the right, nothing cut: a terminal wraps, and a pipe wants it all."""
    if not rows:
        note(empty)
        return
    cells = [[clean(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(_width(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    say(dim(_row(columns, widths, right)))
    for row in cells:
        say(_row(row, widths, right))


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, one a line; pairs without a value are left out."""
    pairs = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        first, *rest = clean(value).split("\n")
        say(f"{dim(name.ljust(width))}  {first}")
        for line in rest:
            say(f"{' ' * width}  {line}")


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        " " * (width - _width(cell)) + cell if at_right else cell + " " * (width - _width(cell))
        for cell, width, at_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """How many columns a terminal gives the text."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _is_number(cell: str) -> bool:
    return cell.removeprefix("$").replace(",", "").replace(".", "").isdigit() or cell in ("", "-")


# --- lines ------------------------------------------------------------------------------------------------------------


def say(text: str = "", *, end: str = "\n") -> None:
    """Print to stdout, at once. What the terminal's encoding lacks is replaced rather than fatal."""
    with _to_stdout():
        _print(text + end, stdout())


def note(text: str) -> None:
    """Print to stderr: what is said about an answer, not part of it. Where nobody can be told, nothing fails for it."""
    if text:
        with suppress(OSError, ValueError):
            _print(text + "\n", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


@contextmanager
def _to_stdout() -> Generator[None]:
    """Say that stdout took nothing as what it is; a reader that left is another matter, which the root deals with."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NotPrinted(error) from error


def sure(question: str, *, otherwise: str) -> None:
    """Ask before what cannot be taken back, on stderr. No is Ctrl-C; where nobody can be asked, it is refused."""
    if not sys.stdin.isatty():
        raise InvalidInput(f"Somebody has to say yes, and there is no terminal to ask in. {otherwise}; say --yes.")
    click.confirm(question, abort=True, err=True)


def clean(text: str) -> str:
    """The text with control and reordering characters made visible; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or not (code < 32 or 127 <= code < 160 or code in _REORDERING):
        return character
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def shortened(text: str, length: int = 80) -> str:
    """The text on one line of at most `length` characters, cleaned."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"


def _styled(text: str, code: str, stream: TextIO) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def dim(text: str, *, err: bool = False) -> str:
    """Less important."""
    return _styled(text, "2", sys.stderr if err else stdout())


def bold(text: str, *, err: bool = False) -> str:
    """More important."""
    return _styled(text, "1", sys.stderr if err else stdout())


def red(text: str, *, err: bool = False) -> str:
    """Wrong."""
    return _styled(text, "31", sys.stderr if err else stdout())


# --- values -----------------------------------------------------------------------------------------------------------


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 session`, `2 sessions`; `many` where an `s` does not do it."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def usd(micros: int) -> str:
    """Micro-USD as dollars, to the cent or, below that, as finely as it is: `$1.25`, `$0.000315`."""
    from remanence.core.ledger import amount_words

    return amount_words(micros, "usd_micros")


def moment(at: int | None) -> str:
    """Microseconds since 1970 as local date and time; `-` for never."""
    return "-" if at is None else f"{_local(at):%Y-%m-%d %H:%M:%S}"


def clock_time(at: int) -> str:
    """Microseconds since 1970 as local time of day."""
    return f"{_local(at):%H:%M:%S}"


def _local(at: int) -> datetime:
    return datetime.fromtimestamp(at / _MICROS, UTC).astimezone()
