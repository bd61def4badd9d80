"""Freezes over many sessions, and budgets.

A freeze over an agent, a project or everything is one row that every effect's transaction looks at: when `freeze`
returns, no effect intent under it can be journaled any more, and the answer names the last one that was.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec.structs import replace

from remanence.commands.caller import Caller, state_of
from remanence.commands.sessions import tell
from remanence.core.ledger import amount_words, kept_scope, own_scope
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import BudgetRaised
from remanence.ports import Budget, Entry, Hold, SessionQuery

__all__ = [
    "budgets_of",
    "changed_before",
    "check_agent",
    "freeze_scope",
    "freezes_of",
    "has_scope",
    "hold_over",
    "raise_budget",
    "set_budget",
    "thaw_scope",
]

_PAGE = 200
LIMIT_END = 2**53
"""Limits from here on are refused: they are more than JSON says exactly, and soon more than a database counts."""
Unit = Literal["usd_micros", "tokens"]


async def freeze_scope(caller: Caller, scope: str, *, reason: str = "", mark: Entry | None = None) -> Hold:
    """Freeze `all`, `project:NAME`, or `agent:NAME` of the caller's project: the kill switch.

    `mark` is kept with it, and says that it was done. Raises Conflict when it was.
    """
    _check(scope, r"all|project:.+|agent:.+", "all, project:NAME or agent:NAME")
    kept = kept_scope(caller.project, scope)
    now = caller.clock.now()
    hold = await caller.database.controls.freeze(kept, at=now, by=caller.actor, reason=reason, mark=mark)
    return replace(hold, scope=scope)


async def check_agent(caller: Caller, scope: str) -> None:
    """A misspelt name must not look as if something had been stopped. Raises NotFound for an agent nobody declared."""
    kind, _, agent = scope.partition(":")
    if kind != "agent":
        return
    known = sorted({version.agent for version in await caller.database.specs.versions(caller.project)})
    if agent not in known:
        names = f"The agents there are: {', '.join(known)}." if known else "There are none yet."
        raise NotFound(f"There is no agent called {agent!r} in project {caller.project}. Nothing was frozen. {names}")


async def thaw_scope(caller: Caller, scope: str) -> None:
    """Lift such a freeze; the sessions it stopped go on. NotFound when none stands."""
    await caller.database.controls.thaw(kept_scope(caller.project, scope), at=caller.clock.now())


async def freezes_of(caller: Caller, project: str | None = None) -> list[Hold]:
    """The freezes that reach a project (the caller's, unless told), as it calls them, oldest first."""
    named = (
        (own_scope(project or caller.project, hold.scope), hold) for hold in await caller.database.controls.holds()
    )
    return [replace(hold, scope=scope) for scope, hold in named if scope is not None]


async def hold_over(caller: Caller, agent: str) -> Hold | None:
    """A freeze that stops what an agent of the caller's project would do, if one stands."""
    stopping = ("all", f"project:{caller.project}", f"agent:{agent}")
    return next((hold for hold in await freezes_of(caller) if hold.scope in stopping), None)


async def set_budget(caller: Caller, scope: str, unit: Unit, limit: int, *, mark: Entry | None = None) -> Budget:
    """Set the limit of a scope, counted from now on (or the limit of a budget that stands, keeping its use).

    `mark` is kept with it, and says that it was done. Raises Conflict when it was.
    """
    kept = _kept(caller, scope)
    _check_limit(limit)
    budget = await caller.database.controls.set_budget(kept, unit, limit, at=caller.clock.now(), mark=mark)
    await _wake(caller, budget)
    return _named(caller, budget)


def _check_limit(limit: object) -> None:
    if type(limit) is not int or not 0 <= limit < LIMIT_END:
        why = "cannot be negative" if type(limit) is int and limit < 0 else f"is a whole number below {LIMIT_END:,}"
        raise InvalidInput(f"A budget {why}, and this is {limit!r}. Nothing was changed.", param="limit").because(
            "bad_amount", amount=str(limit)[:40]
        )


async def budgets_of(caller: Caller, scope: str | None = None) -> list[Budget]:
    """The budgets of the caller's project, or of one scope of it: its own, those of its sessions, agents and users."""
    kept = _kept(caller, scope) if scope else None
    found = await caller.database.controls.budgets(kept)
    return [_named(caller, budget) for budget in found if await _owns(caller, budget.scope)]


async def has_scope(caller: Caller, scope: str) -> bool:
    """Whether a budget of this scope would belong to the caller's project."""
    return await _owns(caller, _kept(caller, scope))


async def _owns(caller: Caller, kept: str) -> bool:
    kind, _, name = kept.partition(":")
    if kind != "session":
        return own_scope(caller.project, kept) is not None
    try:
        return (await caller.database.views.session(name)).summary.project == caller.project
    except NotFound:
        return False


async def raise_budget(
    caller: Caller, scope: str, unit: Unit, *, by: int = 0, to: int | None = None, mark: Entry | None = None
) -> Budget:
    """Raise a budget by an amount or to a limit; sessions that paused at it go on. NotFound when there is none.

    Of several who raise it at once each adds its own. `mark` is as for `set_budget`.
    """
    kept = _kept(caller, scope)
    current = next((b for b in await caller.database.controls.budgets(kept) if b.unit == unit), None)
    if current is None:
        kind, option = ("money", "--usd 5") if unit == "usd_micros" else ("tokens", "--tokens 100000")
        raise NotFound(
            f"There is no budget in {kind} for {scope}. Nothing was changed; set one first: "
            f"remanence budgets set {scope} {option}"
        ).because("no_budget", scope=scope)
    limit = current.limit + by if to is None else to
    if limit <= current.limit:
        there, wanted = amount_words(current.limit, unit), amount_words(limit, unit)
        raise InvalidInput(
            f"The budget of {scope} is {there} already; {wanted} would not raise it. Nothing was changed."
        ).because("not_raised", scope=scope)
    _check_limit(limit)
    now = caller.clock.now()
    budget = await caller.database.controls.raise_budget(kept, unit, by=by, to=to or 0, at=now, mark=mark)
    await _wake(caller, budget)
    return _named(caller, budget)


async def changed_before(caller: Caller, scope: str, unit: Unit) -> Budget:
    """A budget that was set or raised. Whoever did that may have died before the sessions that paused at it went on:
    they do now. Raises NotFound."""
    kept = _kept(caller, scope)
    budget = next((one for one in await caller.database.controls.budgets(kept) if one.unit == unit), None)
    if budget is None:
        raise NotFound(f"There is no budget in {unit} for {scope} any more.")
    await _wake(caller, budget)
    return _named(caller, budget)


async def _wake(caller: Caller, budget: Budget) -> None:
    """Tell every session that paused at this budget."""
    query = SessionQuery(waiting_on="budget", limit=_PAGE)
    while True:
        rows = await caller.database.views.sessions(query)
        for row in rows:
            s = await state_of(caller, row.session)
            pause, kept = s.pause, (budget.scope, budget.unit)
            if pause and (kept_scope(s.project, pause.scope), pause.unit) == kept and budget.limit > pause.limit:
                raised = BudgetRaised(pause.scope, budget.unit, budget.limit, caller.actor)
                try:
                    await tell(caller, row.session, raised, seen=s)
                except Conflict:
                    await tell(caller, row.session, raised)  # whoever writes there just now keeps its row
        if len(rows) < query.limit:
            return
        query = SessionQuery(waiting_on="budget", limit=_PAGE, before=(rows[-1].updated_at, rows[-1].session))


def _kept(caller: Caller, scope: str) -> str:
    """The name a scope is kept under. One that is kept under such a name already, as journals say it, stays."""
    if "@" in scope.partition(":")[0] and own_scope(caller.project, scope) is not None:
        return scope
    _check(scope, r"(session|agent|user|project):.+", "session:ID, agent:NAME, user:NAME or project:NAME")
    return kept_scope(caller.project, scope)


def _named(caller: Caller, budget: Budget) -> Budget:
    return replace(budget, scope=own_scope(caller.project, budget.scope) or budget.scope)


def _check(scope: str, pattern: str, words: str) -> None:
    if not re.fullmatch(pattern, scope):
        raise InvalidInput(f"{scope!r} is not a scope. Use {words}. Nothing was changed.", param="scope").because(
            "bad_scope", scope=scope[:80], words=words
        )
