"""`run` and `attach`: ask once; come back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from remanence.cli.command import REMARK, Command, Format, Invocation, as_text, asynchronous, leave, spelled
from remanence.cli.output import bold, dim, note, say, show
from remanence.cli.talking import Ended, View, detached, exit_code_of, outcome_of, say_rest, speak, until_done
from remanence.cli.watching import Rest, Watch, hold_over, rest_of
from remanence.commands.shapes import OutcomeShape
from remanence.errors import InvalidInput, RemanenceError
from remanence.spec import IfBusy

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["attach", "follow_answer", "freeze_over", "input_text", "is_own", "run", "say_accepted"]


class RunOptions(TypedDict):
    """The options of `run`."""

    session: str | None
    user: str | None
    title: str
    if_busy: IfBusy | None
    idempotency_key: str | None
    wait: bool
    as_json: bool
    output: Format


@click.command(cls=Command, shape=OutcomeShape)
@click.argument("agent")
@click.argument("text")
@click.option("--session", metavar="ID", help="Say it in this session instead of a new one.")
@click.option("--user", metavar="NAME", help="Whom the new session is for. Default: you.")
@click.option("--title", type=REMARK, default="", help="A title for the new session.")
@click.option(
    "--if-busy",
    type=click.Choice(["queue", "steer", "interrupt", "reject"]),
    help="What to do while a turn runs. Default: as the agent says.",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key again is the same input, not another.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the answer, or only hand it in.")
@click.option("--json", "as_json", is_flag=True, help="Short for -o json.")
@asynchronous
async def run(call: Invocation, agent: str, text: str, **options: Unpack[RunOptions]) -> None:
    """Ask an agent once.

    AGENT is a name, NAME@VERSION, or where it is declared (agent.py, module:name). TEXT is what to say; - reads it from
    stdin. The answer goes to stdout, what happens meanwhile to stderr.
    """
    from remanence.cli.choosing import agent_called, agents_for, session_called, warn_of_missing_functions
    from remanence.cli.opening import with_functions
    from remanence.commands.sessions import Opening, check_said
    from remanence.content import Text

    known = agents_for(call.configuration, agent)
    said, key = input_text(text), options["idempotency_key"]
    check_said((Text(said),), call.configuration.settings.input_bytes_max)
    agents = with_functions(known.values())
    async with call.reach(worker=options["wait"], own=is_own(call, agent), create=bool(known), agents=agents) as reach:
        if options["session"]:
            session = await session_called(reach, options["session"])
        else:
            spec = await agent_called(reach, known, agent)
            warn_of_missing_functions(reach, spec)
            opening = Opening(user=options["user"] or call.person, title=options["title"], key=key)
            session = await reach.steering.open(spec, opening)
        watch = await Watch.of(reach, session)
        sent = await speak(reach, session, said, if_busy=options["if_busy"], key=key)
        output: Format = "json" if options["as_json"] else options["output"]
        come_back = _come_back(call, session, agent)
        if options["wait"]:
            if sent.replayed:
                watch = await Watch.before(reach, session, sent.position)
            await follow_answer(watch, sent.position, call.person, output, come_back)
        answer = outcome_of(watch, sent.position, Ended(None, "accepted"))
        show(answer, output, lambda: say(session))
        if output == "table":
            say_accepted(f"Accepted as record {sent.position}", await freeze_over(reach, session), come_back, say=note)


def _come_back(call: Invocation, session: str, agent: str | None) -> str:
    """The command that comes back to a session: with the agent's place where the settings do not have it."""
    return spelled("attach", session, *(("--agent", str(agent)) if is_own(call, agent) else ()))


def is_own(call: Invocation, agent: str | None) -> bool:
    """Whether an agent is named by a place that only this command line knows: then no server can run it."""
    from remanence.cli.opening import is_target

    return agent is not None and is_target(agent) and agent not in call.configuration.settings.agents


async def freeze_over(reach: Reach, session: str) -> Rest | None:
    """The freeze that an input of this session waits behind, if one stands."""
    try:
        s = (await Watch.of(reach, session)).state
        rest = rest_of(s) or hold_over(s, await reach.journals.freezes(s.project))
    except RemanenceError as error:
        note(f"Whether a freeze stands could not be seen: {error}")  # the input is kept all the same
        return None
    return rest if rest is not None and rest.word == "thaw" else None


def say_accepted(words: str, freeze: Rest | None, come_back: str, *, say: Callable[[str], None] = say) -> None:
    """That an input is kept, who answers it, and how to see the answer. A frozen session is answered by nobody."""
    say(f"{words}; a worker answers it{' once the freeze is lifted' if freeze else ''}.")
    if freeze is not None:
        say_rest(freeze, come_back)
    else:
        note(f"See it with:\n  {come_back}")


def input_text(text: str) -> str:
    """What was said: the text, or for `-` what stdin holds. Refused when it is empty, before anything is opened."""
    said = as_text("What stdin holds", sys.stdin.read()) if text == "-" else text
    if not said.strip():
        raise InvalidInput("The input is empty. Nothing was written; say something.", param="input")
    return said


async def follow_answer(watch: Watch, position: int, me: str, output: Format, come_back: str) -> None:
    """Show what becomes of an input and leave with its exit code. `come_back` is the command to say when it waits."""
    session = watch.state.id
    try:
        ended = await until_done(watch, position, View(me) if output == "table" else None)
    except asyncio.CancelledError:
        await detached(watch.reach, session, come_back)
        raise
    show(outcome_of(watch, position, ended), output, lambda: None)
    if output == "table":
        if ended.rest is not None:
            say_rest(ended.rest, come_back)
        elif sys.stderr.isatty():
            note(dim(f"session {session}", err=True))
    leave(exit_code_of(ended))


# --- coming back ------------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("session", metavar="ID")
@click.option("--agent", metavar="PLACE", help="Where the agent is declared, when the settings do not say.")
@click.option("--worker/--no-worker", default=True, show_default=True, help="Do the session's work, or only watch.")
@asynchronous
async def attach(call: Invocation, session: str, *, agent: str | None, worker: bool) -> None:
    """Come back to a session: do its work and follow it.

    Shows the turn that runs, or the last one, and follows until the session rests. ID may be `last`.
    """
    from remanence.cli.choosing import agents_for, session_called, warn_of_missing_functions
    from remanence.cli.opening import with_functions

    known = agents_for(call.configuration, agent) if worker else {}
    agents = with_functions(known.values())
    async with call.reach(worker=worker, own=is_own(call, agent), agents=agents) as reach:
        found = await session_called(reach, session)
        watch = await Watch.of(reach, found)
        s = watch.state
        if worker and (s.turn is not None or s.queue):
            warn_of_missing_functions(reach, await reach.agents.spec(s.version))
        view = View("")
        await _show_last_turn(reach, watch, view)
        come_back = _come_back(call, found, agent)
        try:
            ended = await until_done(watch, None, view)
        except asyncio.CancelledError:
            await detached(reach, found, come_back)
            raise
        if ended.rest is not None:
            say_rest(ended.rest, come_back)
            leave(exit_code_of(ended))
        note(f"The session is at rest. Go on with:\n  {spelled('chat', '--session', found)}")
        leave(0 if watch.state.last_turn != "failed" else 1)


async def _show_last_turn(reach: Reach, watch: Watch, view: View) -> None:
    """What was said in the turn that runs, or in the last one."""
    from remanence.events import InputReceived, TurnStarted

    s = watch.state
    say(bold(f"{s.agent}  {s.id}") + (f"  {s.title}" if s.title else ""))
    start = s.turn.position if s.turn else 0
    after = max(start - 200, 0) if start else max(s.head - 400, 0)
    records = await reach.journals.records(s.id, after=after, limit=s.head - after) if s.head > after else ()
    records = [record for record in records if record.position <= s.head]
    started = [record for record in records if isinstance(record.event, TurnStarted)]
    if not started:
        return
    last = started[-1]
    inputs = last.event.inputs if isinstance(last.event, TurnStarted) else ()
    for record in records:
        asked = isinstance(record.event, InputReceived) and record.position in inputs
        if asked or record.position >= last.position:
            view.show(record)
