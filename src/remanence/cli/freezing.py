"""`sessions freeze`, `thaw` and `freezes`: one session, an agent, a project, or everything at once. The kill switch."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from remanence.cli.command import REMARK, Command, Format, Invocation, asynchronous, spelled
from remanence.cli.output import say, show, table
from remanence.commands.shapes import FreezeShape

__all__ = ["freeze", "freezes", "thaw"]


class ScopeOptions(TypedDict):
    """What is frozen, and why."""

    agent: str | None
    whole_project: bool
    everything: bool
    reason: str
    output: Format


def _scope(call: Invocation, session: str | None, options: ScopeOptions) -> tuple[str, tuple[str, ...]]:
    """The scope that a flag names and the words of that flag; two empty values for a single session."""
    given = [session, options["agent"], options["whole_project"] or None, options["everything"] or None]
    if sum(item is not None for item in given) != 1:
        raise click.UsageError("Give one of: a session's ID, --agent NAME, --whole-project, --all.")
    if options["everything"]:
        return "all", ("--all",)
    if options["whole_project"]:
        return f"project:{call.configuration.settings.project}", ("--whole-project",)
    return (f"agent:{options['agent']}", ("--agent", str(options["agent"]))) if options["agent"] else ("", ())


@click.command(cls=Command, shape=FreezeShape)
@click.argument("session", metavar="[ID]", required=False)
@click.option("--agent", metavar="NAME", help="Every session of this agent.")
@click.option("--whole-project", is_flag=True, help="Every session of the project (see --project).")
@click.option("--all", "everything", is_flag=True, help="Every session there is.")
@click.option("--reason", type=REMARK, default="", help="Why; it is journaled.")
@asynchronous
async def freeze(call: Invocation, session: str | None, **options: Unpack[ScopeOptions]) -> None:
    """Start no new effect, from now on. Inputs are still accepted and kept.

    When this returns nothing new can start; the last effect that did is shown as the proof. Calls that run already
    finish, and their outcomes are journaled.
    """
    from remanence.cli.choosing import session_called

    scope, words = _scope(call, session, options)
    async with call.reach() as reach:
        if words:
            shape = await reach.steering.freeze_scope(scope, options["reason"])
        else:
            found = await session_called(reach, str(session))
            words = (found,)
            shape = await reach.steering.freeze(found, options["reason"])
    show(shape, options["output"], lambda: _print_freeze(shape, words))


def _print_freeze(shape: FreezeShape, words: tuple[str, ...]) -> None:
    what = "Everything" if shape.scope == "all" else shape.scope
    say(f"{what} is frozen: no new effect starts.")
    if shape.last_effect_session is None:
        say("No effect had started before.")
    else:
        say(f"The last effect that started is record {shape.last_effect_position} of {shape.last_effect_session}.")
    say(f"Lift it with:\n  {spelled('sessions', 'thaw', *words)}")


@click.command(cls=Command, shape=FreezeShape)
@click.argument("session", metavar="[ID]", required=False)
@click.option("--agent", metavar="NAME", help="The freeze over this agent.")
@click.option("--whole-project", is_flag=True, help="The freeze over the project (see --project).")
@click.option("--all", "everything", is_flag=True, help="The freeze over everything.")
@click.option("--reason", type=REMARK, default="", help="Why; it is journaled.")
@asynchronous
async def thaw(call: Invocation, session: str | None, **options: Unpack[ScopeOptions]) -> None:
    """Lift a freeze; what it stopped goes on where it was."""
    from remanence.cli.choosing import session_called

    scope, words = _scope(call, session, options)
    async with call.reach() as reach:
        if words:
            shape = await reach.steering.thaw_scope(scope, options["reason"])
        else:
            shape = await reach.steering.thaw(await session_called(reach, str(session)), options["reason"])
    what = "Everything" if shape.scope == "all" else shape.scope
    show(shape, options["output"], lambda: say(f"{what} is thawed and goes on."))


@click.command(cls=Command, shape=list[FreezeShape])
@asynchronous
async def freezes(call: Invocation, *, output: Format) -> None:
    """The freezes that stand over an agent, the project or everything.

    Sessions that are frozen by themselves: `sessions list --status frozen`.
    """
    async with call.reach() as reach:
        found = list(await reach.journals.freezes(reach.project))
    rows = [(one.scope, one.by, one.reason) for one in found]
    show(found, output, lambda: table(("SCOPE", "BY", "REASON"), rows, empty="Nothing is frozen."))
