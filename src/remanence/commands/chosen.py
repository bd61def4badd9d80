"""Ids of sessions that somebody chose: each project has its own.

An id names one session in a database. If a project could choose any, the refusal of one that is taken would tell a
stranger that it exists, and one that the server will make for another project could be taken first. So what is chosen
over HTTP, also for an import, lies in a space of the project's own: the ids of the default project are as they are,
without a `~`; those of the project `acme` begin with `acme~`, which is put before them when it is not there. Ids in the
forms that the server makes are nobody's to choose.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from remanence.core.ledger import DEFAULT_PROJECT
from remanence.errors import InvalidInput

__all__ = ["chosen_id", "is_made"]

_MARK = "~"
_MADE = re.compile(r"(sess|conv|meter|memory|consolidation)_[0-9a-f]{16,}(_\d{8})?")
_MOVED = re.compile(r"(sess|conv)_[0-9a-f]{16,}")


def is_made(session: str) -> bool:
    """Whether the id is in a form in which sessions of people are made, so that an import may keep it."""
    return _MOVED.fullmatch(session) is not None


def chosen_id(project: str, session: str) -> str:
    """The id under which a project's session is kept that is to be called `session`. Whether it is taken plays no part.

    Raises InvalidInput for an id that is not the project's to choose.
    """
    if _MADE.fullmatch(session):
        raise _refused(session, "the server makes ids of this form itself")
    if project == DEFAULT_PROJECT:
        if _MARK in session:
            raise _refused(session, f"what stands before a `{_MARK}` is another project's name")
        return session
    mark = quote(project, safe="").replace(_MARK, "%7E") + _MARK
    return session if session.startswith(mark) else f"{mark}{session}"


def _refused(session: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"session: {session[:80]!r} cannot be chosen: {why}. Nothing was written; choose another id, or none.",
        param="session",
    )
