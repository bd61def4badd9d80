"""Scene 6: the budget runs out, the session pauses, is raised, goes on. Not a cent over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from remanence.app import Remanence, Session
from remanence.demo import claims
from remanence.demo.claims import Claim
from remanence.demo.theatre import Theatre, asked, until
from remanence.events import BudgetReached, ModelCalled, ModelReplied, Recorded

SESSION = "budget"
SCOPE = f"session:{SESSION}"
TURNS_MAX = 12
CALLS = 2
"""How many calls the session can still pay for, about: room for one answer, not for two."""


class Price(msgspec.Struct, frozen=True):
    """What the calls of one answer took, in `unit`: the most that was set aside, the most that one really cost."""

    unit: Literal["usd_micros", "tokens"]
    reserved: int
    spent: int


async def play(t: Theatre) -> None:
    await t.stage.scene(6, "The budget runs out, not a cent over")
    async with t.runtime() as rt:
        session = await t.open(rt, SESSION)
        await asked(session, "What is in order O-1010?")
        # The second answer, because by then the provider's own count of the window makes the bound a close one.
        price = price_of(await asked(session, "What is in order O-1011?"))
        limit = price.reserved + CALLS * price.spent
        await set_limit(rt, price.unit, limit)
        start = (await session.state()).head
        await t.stage.say(
            "What a call may cost at worst is set aside before it is made, and what it did cost is booked after: here "
            f"{amount(price.unit, price.reserved)} and {amount(price.unit, price.spent)}"
            f"{' (the script pretends to have a price)' if t.scripted else ''}. "
            f"From here on the session has {amount(price.unit, limit)}:"
        )
        records = await spend(session)
        await t.stage.show(records[-1:])
        spent = await used(rt, price.unit)
        paused = isinstance(records[-1].event, BudgetReached)
        text = f"It paused with {amount(price.unit, spent)} spent, because the next call might have gone over."
        await t.stage.claim(Claim(text, paused and 0 < spent <= limit))
        if not paused:
            return
        await t.stage.say("You raise it, and the session goes on:")
        await raise_limit(rt, price.unit, limit)
        await t.stage.show(await until(session, after=records[-1].position))
        journal = await session.history(after=start)
        spent = await used(rt, price.unit)
    await t.stage.claim(
        claims.reached_then_raised(journal),
        claims.stayed_under(journal, limit, price.unit),
        Claim(f"The budget's own count agrees: {amount(price.unit, spent)}.", spent == spent_in(journal, price.unit)),
    )


async def spend(session: Session) -> list[Recorded]:
    """Ask on until the budget stops it: the records of the last turn."""
    records: list[Recorded] = []
    for number in range(12, 12 + TURNS_MAX):
        records = await asked(session, f"What is in order O-10{number}?")
        if isinstance(records[-1].event, BudgetReached):
            break
    return records


def price_of(records: Sequence[Recorded]) -> Price:
    """From one answer: in money when the model has a price, else in tokens."""
    called = claims.events(records, ModelCalled)
    replied = claims.events(records, ModelReplied)
    if called[0].reserved_usd_micros > 0:
        spent = max(reply.cost_usd_micros or 0 for reply in replied)
        return Price("usd_micros", max(call.reserved_usd_micros for call in called), spent)
    spent = max(reply.usage.total_tokens for reply in replied)
    return Price("tokens", max(call.reserved_tokens for call in called), spent)


def spent_in(journal: Sequence[Recorded], unit: str) -> int:
    replied = claims.events(journal, ModelReplied)
    return sum((reply.cost_usd_micros or 0) if unit == "usd_micros" else reply.usage.total_tokens for reply in replied)


def amount(unit: str, value: int) -> str:
    return f"${dollars(value)}" if unit == "usd_micros" else f"{value} tokens"


def dollars(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


async def set_limit(rt: Remanence, unit: str, limit: int) -> None:
    if unit == "usd_micros":
        await rt.set_budget(SCOPE, usd=dollars(limit))
    else:
        await rt.set_budget(SCOPE, tokens=limit)


async def raise_limit(rt: Remanence, unit: str, by: int) -> None:
    if unit == "usd_micros":
        await rt.raise_budget(SCOPE, usd=dollars(by))
    else:
        await rt.raise_budget(SCOPE, tokens=by)


async def used(rt: Remanence, unit: str) -> int:
    budgets = await rt.database.controls.budgets(SCOPE)
    return next(budget.spent for budget in budgets if budget.unit == unit)
