"""What ends a pause at a budget, besides the raise that a person tells the session of.

A budget that several sessions share is refused to one of them for two reasons that look alike. Either it is *spent*:
then only a raise helps. Or it is *set aside* for calls that run elsewhere, each for the most it may cost; when they end
they give back what they did not need, and nobody tells those who were refused. So a session that paused for that reason
looks again by itself: soon at first, then ever later, and it goes on once there is room for the call it was refused.
Nothing is promised to it: the room is reserved in the transaction of the call, and it pauses again if another was
faster.
"""

from __future__ import annotations

from remanence.core.freezes import freeze_scopes
from remanence.core.ledger import budget_scopes, kept_scope
from remanence.core.state import Session
from remanence.errors import BudgetExceeded
from remanence.events import BudgetRaised
from remanence.ports import Controls

__all__ = ["end_of_pause", "refuse_unpriced", "still_held"]

_MICROS = 1_000_000
LOOK_FIRST_S = 1.0
LOOK_LAST_S = 30.0
"""Looks come at half the age of the pause, between these two."""


async def end_of_pause(controls: Controls, s: Session, now: int) -> BudgetRaised | int | None:
    """The fact that ends the pause of `s`, or the moment of the next look, or None when nothing but a raise helps."""
    pause = s.pause
    if pause is None:
        return None
    kept = kept_scope(s.project, pause.scope)  # journals of older releases say how a project calls it
    budget = next((b for b in await controls.budgets(kept) if b.unit == pause.unit), None)
    if budget is None:
        return None
    if budget.limit > pause.limit:
        return BudgetRaised(pause.scope, pause.unit, budget.limit, "the budget as it stands")
    if not pause.needed or budget.spent + pause.needed > budget.limit:
        return None
    if budget.spent + budget.reserved + pause.needed <= budget.limit:
        return BudgetRaised(pause.scope, pause.unit, budget.limit, "calls that ended made room")
    wait_s = min(max((now - s.at) / _MICROS / 2, LOOK_FIRST_S), LOOK_LAST_S)
    return now + int(wait_s * _MICROS)


async def still_held(controls: Controls, s: Session) -> bool:
    """Whether a freeze stands over the session; a thaw that came while nobody looked told nobody."""
    scopes = freeze_scopes(s.project, s.agent)
    return any(hold.scope in scopes for hold in await controls.holds())


async def refuse_unpriced(controls: Controls, s: Session, model: str) -> None:
    """A money budget cannot be kept when nobody knows what the call costs: such a call does not leave.

    Raises BudgetExceeded when a budget in money stands over `s`.
    """
    for scope in budget_scopes(session=s.id, agent=s.agent, user=s.user, project=s.project):
        for budget in await controls.budgets(scope):
            if budget.unit == "usd_micros":
                raise BudgetExceeded(
                    f"no price is known for {model}, so the budget of {scope} cannot cover it; "
                    "give it prices under [models.NAME] in remanence.toml, then raise the budget",
                    scope=scope,
                    unit="usd_micros",
                    limit=budget.limit,
                    used=budget.spent + budget.reserved,
                    needed=0,
                )
