"""`doubts`: effects of which nobody knows whether they happened, and settling them."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

import click

from remanence.cli.command import REMARK, Format, Group, Invocation, asynchronous, spelled
from remanence.cli.output import counted, moment, note, say, show, table
from remanence.commands.approvals import Resolution
from remanence.commands.shapes import DoubtShape, SettledShape
from remanence.errors import InvalidInput, NotFound

__all__ = ["doubts"]

Outcome = Literal["happened", "run_again", "give_up"]


@click.group(cls=Group)
def doubts() -> None:
    """Settle effects nobody can vouch for.

    A tool that may not run twice was started, and the worker died before it knew the outcome. Look outside (the ledger,
    the mailbox, the server) for the effect key, then say what you found.
    """


@doubts.command("list", shape=list[DoubtShape])
@click.option("--session", metavar="ID", help="Only those of this session (or `last`).")
@asynchronous
async def list_(call: Invocation, *, session: str | None, output: Format) -> None:
    """Effects in doubt, with the keys to look for outside."""
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        only = await session_called(reach, session) if session else None
        found = await reach.people.doubts(only)
    show(found, output, lambda: _list_table(found))


def _list_table(found: list[DoubtShape]) -> None:
    rows = [(d.session, d.call, d.tool, d.effect_key, moment(d.at), _why(d)) for d in found]
    table(("SESSION", "CALL", "TOOL", "EFFECT KEY", "SINCE", "WHY"), rows, empty="Nothing is in doubt.")
    if found:
        words = spelled("doubts", "resolve", found[0].session, found[0].call, "--happened", "RESULT")
        note(f"Settle one with, for example:\n  {words}")


def _why(doubt: DoubtShape) -> str:
    """Why nobody can vouch for it, and what came of asking the tool."""
    if not doubt.asked:
        return doubt.reason
    again = "it is not asked again" if doubt.retry_at is None else f"asked again at {moment(doubt.retry_at)}"
    return f"{doubt.reason}; {doubt.failure}, {counted(doubt.asked, 'failure')}: {again}"


class ResolveOptions(TypedDict):
    """The options of `doubts resolve`."""

    happened: str | None
    run_again: bool
    give_up: bool
    note: str
    output: Format


@doubts.command("resolve", shape=SettledShape)
@click.argument("session", metavar="ID")
@click.argument("called", metavar="[CALL]", required=False)
@click.option("--happened", metavar="RESULT", help="It happened; RESULT is what the agent reads as its outcome.")
@click.option("--run-again", is_flag=True, help="It did not happen: run it, under the same key.")
@click.option("--give-up", is_flag=True, help="Nobody can tell; the agent is told so.")
@click.option("--note", type=REMARK, default="", help="A remark; it is journaled.")
@asynchronous
async def resolve(call: Invocation, session: str, called: str | None, **options: Unpack[ResolveOptions]) -> None:
    """Say what became of an effect. CALL can be left out when only one of the session is in doubt."""
    from remanence.cli.choosing import session_called

    outcome = _outcome(options)
    async with call.reach() as reach:
        found = await session_called(reach, session)
        known = called or _only(await reach.people.doubts(found), found)
        resolution = Resolution(outcome, options["happened"] or "", options["note"])
        shape = await reach.people.resolve(found, known, resolution)
    words = {"happened": "it happened", "run_again": "it did not happen and runs now", "give_up": "it is given up"}
    show(shape, options["output"], lambda: say(f"Settled by {shape.by}: {words[outcome]}."))


def _outcome(options: ResolveOptions) -> Outcome:
    given: list[tuple[Outcome, bool]] = [
        ("happened", options["happened"] is not None),
        ("run_again", options["run_again"]),
        ("give_up", options["give_up"]),
    ]
    chosen: list[Outcome] = [outcome for outcome, wanted in given if wanted]
    if options["happened"] in ("--run-again", "--give-up", "--note"):
        # An option in the place of RESULT would go to the model as the outcome of the effect.
        raise click.UsageError("--happened wants what came of it, in words the agent reads: --happened RESULT.")
    if len(chosen) != 1:
        raise click.UsageError("Say one of: --happened RESULT, --run-again, --give-up.")
    return chosen[0]


def _only(found: list[DoubtShape], session: str) -> str:
    if not found:
        raise NotFound(f"Nothing is in doubt in session {session}. Nothing was recorded.", param="call")
    if len(found) > 1:
        calls = ", ".join(f"{doubt.call} ({doubt.tool})" for doubt in found)
        raise InvalidInput(f"Several effects are in doubt: {calls}. Nothing was recorded; name one.", param="call")
    return found[0].call
