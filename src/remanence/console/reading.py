"""How a page reads: its questions together, in one read transaction of the store.

**One query a page.** A page asks `Screens.ask` once, with everything it shows; who looks was asked before it, like for
every request. What is a projection of the journals (words, sums, minutes) may be a moment behind them: the page asks
that along with the rest, and only when it is so reads what is missing and asks again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from remanence.commands.caller import state_loaded, state_of
from remanence.commands.search import catch_up
from remanence.commands.usage import USAGE, bring_up_to_date
from remanence.console.frame import Frame, owned
from remanence.core.state import Session
from remanence.events import Recorded
from remanence.ports import Budget, Loaded, Version
from remanence.screens import SCREENS, Behind, Opened, Question, Shown

__all__ = ["Reading", "ask", "ask_current", "opened", "state_from"]

CATCH_UP_S = 0.05


class Reading(msgspec.Struct, frozen=True):
    """A session, a stretch of its journal (the positions over `first`, up to `last`), and what belongs to it."""

    s: Session
    records: tuple[Recorded, ...]
    first: int
    last: int
    version: Version | None
    budgets: tuple[Budget, ...]


async def ask(frame: Frame, *questions: Question) -> list[Any]:
    """The answers, true at one moment."""
    return await frame.caller.database.screens.ask(*questions)


async def ask_current(frame: Frame, *questions: Question, spent: bool = True) -> tuple[list[Any], list[str], int]:
    """The same, of what was journaled up to now.

    Also the journals that cannot be read for what was spent, and how many sessions were not read yet for the rest.
    """
    projections = (SCREENS, USAGE) if spent else (SCREENS,)
    *answers, behind = await ask(frame, *questions, Behind(projections))
    if not behind:
        return answers, [], 0
    left = await catch_up(frame.caller, within_s=CATCH_UP_S)
    unread = await bring_up_to_date(frame.caller) if spent else []
    return await ask(frame, *questions), unread, left


async def opened(frame: Frame, question: Opened) -> Reading:
    """A session of the visitor's project. Raises NotFound."""
    (shown,) = await ask(frame, question)
    assert isinstance(shown, Shown)
    s = owned(frame, await state_from(frame, question.session, shown.loaded))
    first, last = question.bounds(s.head)
    return Reading(s, shown.records, first, last, shown.version, shown.budgets)


async def state_from(frame: Frame, session: str, loaded: Loaded) -> Session:
    """The state of what was loaded; from the journal, where its snapshot cannot be read."""
    return state_loaded(loaded, session) or await state_of(frame.caller, session)
