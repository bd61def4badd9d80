"""`budgets`: limits in money and tokens, set, raised and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from remanence.cli.command import Format, Group, Invocation, Whole, asynchronous
from remanence.cli.output import note, say, show, table, usd
from remanence.commands.controls import Unit
from remanence.commands.shapes import BudgetShape
from remanence.core.ledger import usd_to_micros

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["budgets"]


@click.group(cls=Group)
def budgets() -> None:
    """Limits in money and tokens.

    A SCOPE is agent:NAME, user:NAME, project:NAME or session:ID (or session:last). What a call may cost at most is set
    aside before it leaves, so a limit is never overshot; a session that reaches one pauses until it is raised.
    """


class AmountOptions(TypedDict):
    """A limit or an amount: exactly one of the two units."""

    usd: str | None
    tokens: int | None
    output: Format


def _amount(options: AmountOptions) -> tuple[Unit, int]:
    if (options["usd"] is None) == (options["tokens"] is None):
        raise click.UsageError("Give one of --usd AMOUNT and --tokens NUMBER.")
    if options["tokens"] is not None:
        return "tokens", options["tokens"]
    return "usd_micros", usd_to_micros(options["usd"] or "0")


async def _scope(reach: Reach, scope: str) -> str:
    """The scope, with the session it means. That must exist: a budget on a misspelt id would limit nothing."""
    from remanence.cli.choosing import session_called

    kind, _, name = scope.partition(":")
    return f"session:{await session_called(reach, name)}" if kind == "session" and name else scope


@budgets.command("set", shape=BudgetShape)
@click.argument("scope")
@click.option("--usd", metavar="AMOUNT", help="At most so many US dollars, such as 2.50.")
@click.option("--tokens", type=Whole(0), metavar="NUMBER", help="At most so many tokens.")
@asynchronous
async def set_(call: Invocation, scope: str, **options: Unpack[AmountOptions]) -> None:
    """Set a limit. Use counts from now on; a limit that is changed keeps its count."""
    unit, limit = _amount(options)
    async with call.reach() as reach:
        found = await reach.money.set_budget(await _scope(reach, scope), unit, limit)
        kind, _, name = scope.partition(":")
        unknown = kind == "agent" and not await reach.agents.versions(name)
    show(found, options["output"], lambda: say(_words(found)))
    if unknown:
        note(f"No agent called {name!r} has run here so far; the limit holds from its first call on.")


class RaiseOptions(AmountOptions):
    """The options of `budgets raise`."""

    to: bool


@budgets.command("raise", shape=BudgetShape)
@click.argument("scope")
@click.option("--usd", metavar="AMOUNT", help="By so many US dollars, such as 0.50.")
@click.option("--tokens", type=Whole(1), metavar="NUMBER", help="By so many tokens.")
@click.option("--to", is_flag=True, help="To that amount instead of by it.")
@asynchronous
async def raise_(call: Invocation, scope: str, **options: Unpack[RaiseOptions]) -> None:
    """Raise a limit by an amount; sessions that paused at it go on."""
    unit, amount = _amount(options)
    async with call.reach() as reach:
        known = await _scope(reach, scope)
        if options["to"]:
            found = await reach.money.raise_budget(known, unit, to=amount)
        else:
            found = await reach.money.raise_budget(known, unit, by=amount)
    show(found, options["output"], lambda: say(f"{_words(found)} Sessions that paused at it go on."))


@budgets.command("list", shape=list[BudgetShape])
@click.argument("scope", required=False)
@asynchronous
async def list_(call: Invocation, scope: str | None, *, output: Format) -> None:
    """Limits and what is left of them."""
    async with call.reach() as reach:
        known = await _scope(reach, scope) if scope else None
        found = await reach.money.budgets(known)
    rows = [
        (
            budget.scope,
            _value(budget.limit, budget.unit),
            _value(budget.spent, budget.unit),
            _value(budget.reserved, budget.unit),
            _value(budget.limit - budget.spent - budget.reserved, budget.unit),
        )
        for budget in found
    ]
    columns = ("SCOPE", "LIMIT", "SPENT", "SET ASIDE", "LEFT")
    show(
        found,
        output,
        lambda: table(columns, rows, empty="There is no limit. Set one: remanence budgets set agent:NAME --usd 5"),
    )


def _words(budget: BudgetShape) -> str:
    used = budget.spent + budget.reserved
    return f"{budget.scope}: at most {_value(budget.limit, budget.unit)}, {_value(used, budget.unit)} used so far."


def _value(amount: int, unit: str) -> str:
    return usd(amount) if unit == "usd_micros" else f"{amount:,} tokens"
