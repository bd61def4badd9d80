"""The same thing elsewhere: for what a page shows, the command, the curl line and the Python that do it.

Every object of the console says how a program gets at it. Lines are for a POSIX shell; the key is never written into
them, but taken from `REMANENCE_API_KEY`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from remanence.console.frame import Frame

__all__ = ["Ways", "listing", "of_session"]


class Ways(msgspec.Struct, frozen=True):
    """One object or act, said three times."""

    command: str
    curl: str
    python: str


def ways(frame: Frame, words: Sequence[str], path: str, python: str, *, body: object = None, method: str = "") -> Ways:
    """A command of the CLI, a path of the API (with a JSON body: a POST), and lines inside an open `Remanence`."""
    pieces = ["curl", "-H", '"authorization: Bearer $REMANENCE_API_KEY"']
    if method:
        pieces += ["-X", method]
    if body is not None:
        pieces += ["-H", "'content-type: application/json'", "-d", shlex.quote(msgspec.json.encode(body).decode())]
    return Ways(
        " ".join(["remanence", *(shlex.quote(word) for word in words)]),
        " ".join([*pieces, shlex.quote(frame.origin + path)]),
        f"async with Remanence({frame.caller.database.url!r}, worker=False) as rt:\n    {python}",
    )


def of_session(frame: Frame, session: str) -> Ways:
    """One session."""
    return ways(
        frame, ["sessions", "get", session], f"/admin/v1/sessions/{session}", f"session = await rt.get({session!r})"
    )


def listing(frame: Frame, filters: dict[str, str]) -> Ways:
    """The sessions that fit."""
    given = {name: value for name, value in filters.items() if value}
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    query = "&".join(f"{name}={value}" for name, value in given.items())
    named = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return ways(
        frame,
        ["sessions", "list", *options],
        f"/admin/v1/sessions?{query}".removesuffix("?"),
        f"rows = await rt.database.views.sessions(SessionQuery({named}))",
    )
