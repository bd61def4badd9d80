"""`chat`: a conversation in the terminal. Lines are inputs; a few begin with `/` and are for the chat itself.

Leaving changes nothing: a turn belongs to the session, and whoever runs a worker goes on with it. What waits for a
person is asked on the spot, and the answer is journaled under the name of whoever sits here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import click

from remanence.cli.answering import Desk, answered
from remanence.cli.background import Background
from remanence.cli.command import REMARK, Command, Invocation, as_text, leave, spelled
from remanence.cli.output import bold, dim, facts, note, say, usd
from remanence.cli.talking import FINISHING, INTERRUPTED, Ended, View, exit_code_of, say_rest, speak, until_done
from remanence.cli.watching import Watch
from remanence.core.state import status_of, waiting_on
from remanence.errors import RemanenceError

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["chat"]

HELP = """\
/session         what this session is, did and cost
/cancel [WHY]    stop the turn that runs
/fork [TURN]     go on in a copy of this session, from the end of a turn (default: from here)
/quit            leave; the session stays
Enter            see what happened meanwhile
Anything else is said to the agent."""


class ChatOptions(TypedDict):
    """The options of `chat`."""

    session: str | None
    user: str | None
    title: str
    worker: bool


@click.command(cls=Command)
@click.argument("agent", required=False)
@click.option("--session", metavar="ID", help="Go on with this session (or `last`) instead of a new one.")
@click.option("--user", metavar="NAME", help="Whom the new session is for. Default: you.")
@click.option("--title", type=REMARK, default="", help="A title for the new session.")
@click.option("--worker/--no-worker", default=True, show_default=True, help="Do the session's work, or only talk.")
@click.pass_obj
def chat(call: Invocation, agent: str | None, **options: Unpack[ChatOptions]) -> None:
    """Talk with an agent in the terminal.

    AGENT is a name, NAME@VERSION, or where it is declared (agent.py, module:name); with one agent it can be left out.
    When stdin is not a terminal, each line of it is an input.
    """
    with Background() as loop:
        stack = AsyncExitStack()
        try:
            conversation = loop.call(_open(stack, loop, call, agent, options))
            code = conversation.talk()
        finally:
            loop.call(stack.aclose())
    leave(code)


async def _open(
    stack: AsyncExitStack, loop: Background, call: Invocation, agent: str | None, options: ChatOptions
) -> Conversation:
    from remanence.cli.choosing import agent_called, agents_for, session_called, warn_of_missing_functions
    from remanence.cli.opening import with_functions
    from remanence.cli.run import is_own
    from remanence.commands.sessions import Opening

    known = agents_for(call.configuration, agent)
    agents = with_functions(known.values())
    create = options["session"] is None and bool(known)
    own = is_own(call, agent)
    answers = call.reach(worker=options["worker"], own=own, create=create, agents=agents)
    reach = await stack.enter_async_context(answers)
    place = (str(agent),) if own else ()
    desk = Desk(loop, reach, call.person)
    if options["session"]:
        watch = await Watch.of(reach, await session_called(reach, options["session"]))
        warn_of_missing_functions(reach, await reach.agents.spec(watch.state.version))
        return Conversation(desk, place, watch)
    spec = await agent_called(reach, known, agent)
    warn_of_missing_functions(reach, spec)

    async def begin() -> Watch:
        opening = Opening(user=options["user"] or call.person, title=options["title"])
        return await Watch.of(reach, await reach.steering.open(spec, opening))

    return Conversation(desk, place, Unopened(spec.name, begin))


class Unopened(NamedTuple):
    """A chat in which nothing was said yet: the session is opened with the first input, not by looking."""

    agent: str
    begin: Callable[[], Coroutine[Any, Any, Watch]]


class Conversation:
    """One chat: the prompt, the commands, and what is shown between them. `place` is where the agent was found, when
    only the command line said so."""

    def __init__(self, desk: Desk, place: tuple[str, ...], where: Watch | Unopened) -> None:
        self._desk = desk
        self._place = place
        self._where = where
        self._tty = sys.stdin.isatty()
        self._view = View(desk.person, aside=sys.stdout if self._tty else sys.stderr)

    @property
    def _watch(self) -> Watch:
        """The session, opened now if it was not."""
        if isinstance(self._where, Unopened):
            self._where = self._desk.loop.call(self._where.begin())
        return self._where

    @property
    def _reach(self) -> Reach:
        return self._desk.reach

    @property
    def _session(self) -> str:
        return self._watch.state.id

    def talk(self) -> int:
        """Until `/quit`, the end of the input or Ctrl-C at the prompt; the exit code."""
        if self._tty:
            # Line editing and history at the prompt.
            import_module("readline")
            where = self._where
            named = (
                (where.agent, "a new session") if isinstance(where, Unopened) else (where.state.agent, self._session)
            )
            say(f"{bold(named[0])}  {dim(named[1])}\n{dim('/help says what you can do; /quit leaves. All is kept.')}")
        try:
            ended = self._converse()
        except KeyboardInterrupt:
            say()
            self._say_kept()
            return INTERRUPTED
        return self._leave(ended)

    def _converse(self) -> Ended | None:
        ended = None if isinstance(self._where, Unopened) else self._catch_up()
        while (line := self._read()) is not None:
            if line == "/quit":
                break
            ended = self._handle(line) or ended
            if not self._tty and ended is not None and ended.rest is not None and ended.rest.word != "answer":
                break
        return ended

    def _read(self) -> str | None:
        try:
            line = as_text("A line", input("> ") if self._tty else sys.stdin.readline())
        except EOFError:
            say()
            return None
        return line.strip() if self._tty or line else None

    def _handle(self, line: str) -> Ended | None:
        """What one line asks for; an error is said, and the chat goes on."""
        word, _, rest = line.partition(" ")
        if isinstance(self._where, Unopened) and word in ("", "/session", "/cancel", "/fork"):
            say("There is no session yet; it begins with the first thing you say.")
            return None
        try:
            match word:
                case "":
                    return self._catch_up() if self._tty else None
                case "/help":
                    say(HELP)
                case "/session":
                    self._facts()
                case "/cancel":
                    return self._cancel(rest.strip())
                case "/fork":
                    self._fork(rest.strip())
                case _:
                    return self._say(line)
        except RemanenceError as error:
            if not self._tty:
                raise
            say(error.message)
        return None

    # --- saying -------------------------------------------------------------------------------------------------------

    def _say(self, line: str) -> Ended | None:
        sent = self._desk.loop.call(speak(self._reach, self._session, line))
        return self._follow(sent.position)

    def _catch_up(self) -> Ended | None:
        return self._follow(None)

    def _follow(self, position: int | None) -> Ended | None:
        """Show what happens until the turn is over or waits for something that is not answered here."""
        try:
            ended = self._desk.loop.call(until_done(self._watch, position, self._view))
            while self._tty and ended.rest is not None and answered(self._desk, self._watch.state, ended.rest):
                ended = self._desk.loop.call(until_done(self._watch, None, self._view))
        except KeyboardInterrupt:
            if not self._tty:
                raise
            say(dim("\nThe turn goes on. Enter follows it, /cancel stops it, /quit leaves."))
            return None
        return ended

    def _cancel(self, reason: str) -> Ended | None:
        self._desk.loop.call(self._reach.steering.cancel(self._session, reason))
        return self._catch_up()

    def _fork(self, turn: str) -> None:
        if turn and not turn.isdigit():
            say("A turn is a number: /fork 2")
            return
        source, number = self._session, int(turn) if turn else None
        forked = self._desk.loop.call(self._reach.steering.fork(source, turn=number, position=None, title=""))
        self._where = self._desk.loop.call(Watch.of(self._reach, forked.session))
        say(dim(f"Now in {forked.session}, a copy of {source}; that one stays as it is."))

    def _facts(self) -> None:
        self._where = self._desk.loop.call(Watch.of(self._reach, self._session))
        s = self._watch.state
        cost = usd(s.ledger.usd_micros) + (" and calls without a price" if s.ledger.unpriced_calls else "")
        facts(
            [
                ("session", s.id),
                ("agent", f"{s.agent}@{s.version[:12]}"),
                ("status", status_of(s) + (f", waiting for {waiting_on(s)}" if waiting_on(s) else "")),
                ("turns", str(s.turns)),
                ("used", f"{s.ledger.usage.total_tokens:,} tokens, {cost}"),
            ]
        )

    # --- leaving ------------------------------------------------------------------------------------------------------

    def _leave(self, ended: Ended | None) -> int:
        if self._tty:
            self._say_kept()
            return 0
        if isinstance(self._where, Unopened) or ended is None:
            return 0
        if ended.rest is not None:
            say_rest(ended.rest, self._come_back())
        return exit_code_of(ended)

    def _say_kept(self) -> None:
        if not isinstance(self._where, Unopened):
            note(f"The session is kept. Come back with:\n  {self._come_back()}")
            if not self._reach.url and self._where.state.turn is not None:
                note(FINISHING)

    def _come_back(self) -> str:
        return spelled("chat", *self._place, "--session", self._session)
