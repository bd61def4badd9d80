"""`doubts`: effects of which nobody knows whether they happened, and settling them."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

import click

from remanence.cli.command import Format, Group, Invocation, asynchronous, spelled
from remanence.cli.output import moment, note, say, show, table
from remanence.commands import approvals as verbs
from remanence.commands.shapes import DoubtShape, SettledShape
from remanence.core.state import Doubt, Session
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

    async with call.caller() as caller:
        only = await session_called(caller, session) if session else None
        found = await verbs.doubts(caller, session=only)
    show([DoubtShape.of(s.id, doubt) for s, doubt in found], output, lambda: _list_table(found))


def _list_table(found: list[tuple[Session, Doubt]]) -> None:
    rows = [(s.id, d.call, d.tool, d.effect_key, moment(d.at), d.reason) for s, d in found]
    table(("SESSION", "CALL", "TOOL", "EFFECT KEY", "SINCE", "WHY"), rows, empty="Nothing is in doubt.")
    if found:
        s, doubt = found[0]
        note(
            f"Settle one with, for example:\n  {spelled('doubts', 'resolve', s.id, doubt.call, '--happened', 'RESULT')}"
        )


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
@click.option("--note", default="", help="A remark; it is journaled.")
@asynchronous
async def resolve(call: Invocation, session: str, called: str | None, **options: Unpack[ResolveOptions]) -> None:
    """Say what became of an effect. CALL can be left out when only one of the session is in doubt."""
    from remanence.cli.choosing import session_called

    outcome = _outcome(options)
    async with call.caller() as caller:
        found = await session_called(caller, session)
        known = called or _only([d for _, d in await verbs.doubts(caller, session=found)], found)
        appended = await verbs.resolve(
            caller, found, known, outcome=outcome, result=options["happened"] or "", note=options["note"]
        )
    shape = SettledShape(found, known, outcome, caller.actor, appended.head)
    words = {"happened": "it happened", "run_again": "it did not happen and runs now", "give_up": "it is given up"}
    show(shape, options["output"], lambda: say(f"Settled by {caller.actor}: {words[outcome]}."))


def _outcome(options: ResolveOptions) -> Outcome:
    given: list[tuple[Outcome, bool]] = [
        ("happened", options["happened"] is not None),
        ("run_again", options["run_again"]),
        ("give_up", options["give_up"]),
    ]
    chosen: list[Outcome] = [outcome for outcome, wanted in given if wanted]
    if len(chosen) != 1:
        raise click.UsageError("Say one of: --happened RESULT, --run-again, --give-up.")
    return chosen[0]


def _only(found: list[Doubt], session: str) -> str:
    if not found:
        raise NotFound(f"Nothing is in doubt in session {session}. Nothing was recorded.", param="call")
    if len(found) > 1:
        calls = ", ".join(f"{doubt.call} ({doubt.tool})" for doubt in found)
        raise InvalidInput(f"Several effects are in doubt: {calls}. Nothing was recorded; name one.", param="call")
    return found[0].call
