"""The same thing elsewhere: for what a page shows, the command, the curl line and the Python that do it.

Every object of the console says how a program gets at it. Lines are for a POSIX shell; the key is never written into
them, but taken from `REMANENCE_API_KEY`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from remanence.console.frame import Frame

__all__ = ["WAYS_OF", "Ways", "listing", "of_approval", "of_doubt", "of_session", "ways"]


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


def of_approval(frame: Frame, session: str, call: str) -> Ways:
    """Saying yes to one exact call."""
    return ways(
        frame,
        ["approvals", "approve", session, call],
        f"/admin/v1/approvals/{session}/{call}",
        f"await (await rt.get({session!r})).approve({call!r}, by={frame.visitor.name!r})",
        body={"decision": "approve"},
    )


def of_doubt(frame: Frame, session: str, call: str) -> Ways:
    """Saying that an effect happened."""
    return ways(
        frame,
        ["doubts", "resolve", session, call, "--happened", "RESULT"],
        f"/admin/v1/doubts/{session}/{call}",
        f"await (await rt.get({session!r})).resolve({call!r}, by={frame.visitor.name!r}, outcome='happened')",
        body={"outcome": "happened", "result": "RESULT"},
    )


WAYS_OF = {"approval": of_approval, "doubt": of_doubt}
"""For what waits in a session, by its kind."""

_OPTIONS = {
    "q": "search",
    "agent": "agent",
    "status": "status",
    "user": "user",
    "waiting_on": "waiting-on",
    "tag": "tag",
}
"""Filters of a list of sessions, and the option of the command that does the same."""


def listing(frame: Frame, filters: Mapping[str, str]) -> Ways:
    """The sessions that fit, by what command, API and Python know of the filters."""
    given = {name: value for name, value in filters.items() if name in _OPTIONS}
    options = [word for name, value in given.items() for word in (f"--{_OPTIONS[name]}", value)]
    words = given.pop("q", None)
    tag = given.pop("tag", None)
    named = [f"{name}={value!r}" for name, value in given.items()]
    named += [f"tag={tuple(tag.split('=', 1))!r}"] if tag else []
    query = f"SessionQuery({', '.join(named)})"
    asked = {**given, **({"tag": tag} if tag else {}), **({"q": words} if words else {})}
    python = f"await search(rt.caller, {words!r}, {query})" if words else f"await rt.database.views.sessions({query})"
    path = f"/admin/v1/sessions?{urlencode(asked)}".removesuffix("?")
    return ways(frame, ["sessions", "list", *options], path, f"found = {python}")
