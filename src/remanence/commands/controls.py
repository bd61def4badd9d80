"""Freezes over many sessions, and budgets.

A freeze over an agent, a project or everything is one row that every effect's transaction looks at: when `freeze`
returns, no effect intent under it can be journaled any more, and the answer names the last one that was.
"""

from __future__ import annotations

import re
from typing import Literal

from remanence.commands.caller import Caller, state_of
from remanence.commands.sessions import tell
from remanence.errors import InvalidInput, NotFound
from remanence.events import BudgetRaised
from remanence.ports import Budget, Hold, SessionQuery

__all__ = ["check_agent", "freeze_scope", "raise_budget", "set_budget", "thaw_scope"]

_PAGE = 200
Unit = Literal["usd_micros", "tokens"]


async def freeze_scope(caller: Caller, scope: str, *, reason: str = "") -> Hold:
    """Freeze `all`, `project:NAME` or `agent:NAME`: the kill switch."""
    _check(scope, r"all|project:.+|agent:.+", "all, project:NAME or agent:NAME")
    return await caller.database.controls.freeze(scope, at=caller.clock.now(), by=caller.actor, reason=reason)


async def check_agent(caller: Caller, scope: str) -> None:
    """A misspelt name must not look as if something had been stopped. Raises NotFound for an agent nobody declared."""
    kind, _, agent = scope.partition(":")
    if kind != "agent":
        return
    known = sorted({version.agent for version in await caller.database.specs.versions(None)})
    if agent not in known:
        names = f"The agents there are: {', '.join(known)}." if known else "There are none yet."
        raise NotFound(f"There is no agent called {agent!r} in this database. Nothing was frozen. {names}")


async def thaw_scope(caller: Caller, scope: str) -> None:
    """Lift such a freeze; the sessions it stopped go on. NotFound when none stands."""
    await caller.database.controls.thaw(scope, at=caller.clock.now())


async def set_budget(caller: Caller, scope: str, unit: Unit, limit: int) -> Budget:
    """Set the limit of a scope, counted from now on (or the limit of a budget that stands, keeping its use)."""
    _check(scope, r"(session|agent|user|project):.+", "session:ID, agent:NAME, user:NAME or project:NAME")
    if limit < 0:
        raise InvalidInput(f"A budget cannot be negative ({limit}). Nothing was changed.", param="limit")
    budget = await caller.database.controls.set_budget(scope, unit, limit, at=caller.clock.now())
    await _wake(caller, budget)
    return budget


async def raise_budget(caller: Caller, scope: str, unit: Unit, *, by: int = 0, to: int | None = None) -> Budget:
    """Raise a budget by an amount or to a limit; sessions that paused at it go on. NotFound when there is none."""
    current = next((b for b in await caller.database.controls.budgets(scope) if b.unit == unit), None)
    if current is None:
        raise NotFound(f"There is no {unit} budget for {scope}. Set one first: remanence budgets set {scope} ...")
    limit = current.limit + by if to is None else to
    if limit <= current.limit:
        raise InvalidInput(f"The budget of {scope} is {current.limit} {unit} already; {limit} would not raise it.")
    return await set_budget(caller, scope, unit, limit)


async def _wake(caller: Caller, budget: Budget) -> None:
    """Tell every session that paused at this budget."""
    query = SessionQuery(waiting_on="budget", limit=_PAGE)
    while True:
        rows = await caller.database.views.sessions(query)
        for row in rows:
            pause = (await state_of(caller, row.session)).pause
            if pause and (pause.scope, pause.unit) == (budget.scope, budget.unit) and budget.limit > pause.limit:
                raised = BudgetRaised(budget.scope, budget.unit, budget.limit, caller.actor)
                await tell(caller, row.session, raised)
        if len(rows) < query.limit:
            return
        query = SessionQuery(waiting_on="budget", limit=_PAGE, before=(rows[-1].updated_at, rows[-1].session))


def _check(scope: str, pattern: str, words: str) -> None:
    if not re.fullmatch(pattern, scope):
        raise InvalidInput(f"{scope!r} is not a scope. Use {words}. Nothing was changed.", param="scope")
