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
STEPS = 2


class Price(msgspec.Struct, frozen=True):
    """What one call of this conversation takes, in `unit`: set aside before it, spent after it, more with each step."""

    unit: Literal["usd_micros", "tokens"]
    reserved: int
    spent: int
    growth: int


async def play(t: Theatre) -> None:
    await t.stage.scene(6, "The budget runs out, not a cent over")
    async with t.runtime() as rt:
        session = await t.open(rt, SESSION)
        price = price_of(await asked(session, "What is in order O-1010?"))
        limit = price.reserved + STEPS * (price.growth + price.spent)
        await set_limit(rt, price.unit, limit)
        start = (await session.state()).head
        pretended = " (the script pretends to have a price)" if t.scripted else ""
        await t.stage.say(
            f"A call is paid for before it is made: {amount(price.unit, price.reserved)} are set aside, "
            f"{amount(price.unit, price.spent)} were really spent{pretended}. From here on the session has "
            f"{amount(price.unit, limit)}."
        )
        records = await spend(session)
        await t.stage.show(records[-1:])
        spent = await used(rt, price.unit)
        await t.stage.claim(
            Claim(f"Paused with {amount(price.unit, spent)} of {amount(price.unit, limit)} spent.", 0 < spent <= limit)
        )
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
    for number in range(1, TURNS_MAX):
        records = await asked(session, f"What is in order O-{1010 + number}?")
        if isinstance(records[-1].event, BudgetReached):
            break
    return records


def price_of(records: Sequence[Recorded]) -> Price:
    """From the first turn: in money when the model has a price, else in tokens."""
    called = claims.events(records, ModelCalled)
    replied = claims.events(records, ModelReplied)
    in_money = called[-1].reserved_usd_micros > 0
    reserved = [call.reserved_usd_micros if in_money else call.reserved_tokens for call in called]
    spent = [(reply.cost_usd_micros or 0) if in_money else reply.usage.total_tokens for reply in replied]
    return Price("usd_micros" if in_money else "tokens", max(reserved), max(spent), max(reserved) - min(reserved))


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
