"""`cost`: what was spent, summed by what one wants to know."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal, get_args

import click

from remanence.cli.command import Command, Format, Invocation, asynchronous
from remanence.cli.output import note, show, table, usd
from remanence.commands.shapes import CostShape
from remanence.commands.usage import usage
from remanence.ports import UsageQuery

__all__ = ["cost"]

Field = Literal["agent", "user", "model", "day", "project", "session"]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Since(click.ParamType[int]):
    """A moment: `7d`, `24h`, `2026-01-31`, or a date and time in ISO 8601; as microseconds since 1970."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        ago = re.fullmatch(r"(\d{1,6})([mhdw])", text)
        try:
            if ago:
                at = datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            else:
                at = datetime.fromisoformat(text).astimezone()
            return int(at.timestamp() * 1_000_000)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is not a moment: write 7d, 24h, 2026-01-31 or a date and time in ISO 8601.", param, ctx
            )


@click.command(cls=Command, shape=list[CostShape])
@click.option(
    "--by", default="agent", show_default=True, metavar="FIELDS", help=f"Any of {', '.join(get_args(Field))}."
)
@click.option(
    "--since", type=Since(), metavar="WHEN", help="Only from then on: 7d, 24h, 2026-01-31. Whole hours count."
)
@click.option("--all-projects", is_flag=True, help="Not only this project.")
@asynchronous
async def cost(call: Invocation, *, by: str, since: int | None, all_projects: bool, output: Format) -> None:
    """What was spent, by agent, user, model or day.

    Several fields are separated by commas: --by user,model. Calls whose price nobody knows are counted apart.
    """
    fields = tuple(field.strip() for field in by.split(",") if field.strip())
    if all_projects:
        # A key of a server reaches no further than its project.
        async with call.caller() as caller:
            rows, unread = await usage(caller, UsageQuery(by=fields, since=since))
        found = [CostShape.of(fields, row) for row in rows]
    else:
        async with call.reach() as reach:
            found, unread = await reach.money.usage(fields, since)
    show(found, output, lambda: _print_cost(fields, found))
    for session in unread:
        note(f"Session {session} could not be read and is not counted; `remanence sessions verify {session}` says why.")


def _print_cost(fields: tuple[str, ...], found: list[CostShape]) -> None:
    columns = (*(field.upper() for field in fields), "CALLS", "TOKENS IN", "CACHED", "TOKENS OUT", "COST", "NO PRICE")
    rows = [(*(row.key[field] or "-" for field in fields), *_amounts(row)) for row in found]
    if len(rows) > 1:
        total = CostShape(
            key={},
            calls=sum(row.calls for row in found),
            input_tokens=sum(row.input_tokens for row in found),
            output_tokens=sum(row.output_tokens for row in found),
            cached_tokens=sum(row.cached_tokens for row in found),
            usd_micros=sum(row.usd_micros for row in found),
            unpriced_calls=sum(row.unpriced_calls for row in found),
        )
        rows.append(("all", *("" for _ in fields[1:]), *_amounts(total)))
    table(columns, rows, empty="Nothing was spent.")
    if any(row.unpriced_calls for row in found):
        note("Calls without a known price are not in COST; `remanence models add` can give a model its prices.")


def _amounts(row: CostShape) -> tuple[str, ...]:
    numbers = [f"{n:,}" for n in (row.calls, row.input_tokens, row.cached_tokens, row.output_tokens)]
    return (*numbers, usd(row.usd_micros), f"{row.unpriced_calls:,}" if row.unpriced_calls else "")
