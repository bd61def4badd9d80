"""What every command shares: the options that are taken everywhere, `-o`, the settings, and the open runtime.

The common options may stand before or after the noun and the verb. A command that answers with data says so by its
`shape`, the type its JSON has; that gives it `-o table|json|jsonl` and its place in the reference.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click

from remanence.cli.output import Format, prints_aside
from remanence.errors import InvalidInput

if TYPE_CHECKING:
    from remanence.agent import Agent
    from remanence.app import Remanence
    from remanence.cli.reach import Reach
    from remanence.commands.caller import Caller
    from remanence.settings import Configuration

__all__ = [
    "Command",
    "Format",
    "Group",
    "Invocation",
    "Number",
    "REMARK",
    "Whole",
    "Words",
    "asynchronous",
    "leave",
    "person",
    "spelled",
]

P = ParamSpec("P")
R = TypeVar("R")


class Whole(click.IntRange):
    """A whole number in a range, called that in errors: click would say "'abc' is not a valid integer range"."""

    name = "whole number"


class Number(click.FloatRange):
    """A number in a range, called that in errors."""

    name = "number"


class Words(click.ParamType[str]):
    """A text of so many characters, as the server takes it: without one, no more and no less is taken."""

    name = "text"

    def __init__(self, longest: int, *, shortest: int = 0) -> None:
        self._longest = longest
        self._shortest = shortest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with how long it is, and may be."""
        if not self._shortest <= len(value) <= self._longest:
            takes = f"at most {self._longest:,}" if len(value) > self._longest else f"at least {self._shortest}"
            self.fail(f"It has {len(value):,} characters, and must have {takes}.", param, ctx)
        return value


REMARK = Words(10_000)
"""A title, or what a person says about what they did."""


@dataclass
class Invocation:
    """One run of the command line: what was asked for everywhere, and the doors that follow from it."""

    options: dict[str, str] = field(default_factory=dict[str, str])
    config: Path | None = None
    name: str = ""
    debug: bool = False
    direct: bool = False
    _configuration: Configuration | None = None

    @property
    def configuration(self) -> Configuration:
        """The settings that hold here. Raises InvalidConfig."""
        if self._configuration is None:
            from remanence.settings import load

            self._configuration = load(Path.cwd(), os.environ, self.options, file=self.config)
        return self._configuration

    @property
    def person(self) -> str:
        """Who answers and speaks: `--as`, `REMANENCE_USER`, or the name of the account."""
        return self.name or person()

    @asynccontextmanager
    async def runtime(
        self, *, worker: bool = False, create: bool = False, agents: Sequence[Agent] = ()
    ) -> AsyncGenerator[Remanence, None]:
        """The runtime, open. With `worker` it also runs due sessions; a missing database is made with `create`."""
        from remanence.cli.opening import opened

        async with opened(self.configuration, self.person, worker=worker, create=create, agents=agents) as rt:
            yield rt

    @asynccontextmanager
    async def reach(
        self,
        *,
        worker: bool = False,
        own: bool = False,
        create: bool = False,
        agents: Sequence[Agent] = (),
        indexed: bool = False,
    ) -> AsyncGenerator[Reach, None]:
        """Whoever answers: the server that runs for this database, or the database itself (see `reaching`)."""
        from remanence.cli.reaching import Work, reached

        work = Work(worker, own, agents, indexed)
        async with reached(self.configuration, self.person, work, create=create, direct=self.direct) as reach:
            yield reach

    @asynccontextmanager
    async def caller(self, *, create: bool = False) -> AsyncGenerator[Caller, None]:
        """What verbs take first, over an open database; nothing is run."""
        async with self.runtime(create=create) as rt:
            yield rt.caller


def person() -> str:
    """Who uses this terminal, when `--as` does not say: `REMANENCE_USER`, or the name of the account."""
    import getpass

    try:
        return os.environ.get("REMANENCE_USER") or getpass.getuser()
    except (KeyError, OSError):
        # An account without a name, as in some containers.
        return "local"


def spelled(*words: str, project: str = "") -> str:
    """A command line of ours as a person would type it here: with the database and the project of this one, or with
    `project` when the words are about something of another."""
    import shlex

    context = click.get_current_context(silent=True)
    invocation = _invocation(context) if context else Invocation()
    given = ["--config", str(invocation.config)] if invocation.config else []
    options = invocation.options
    if project and project != invocation.configuration.settings.project:
        options = {**options, "project": project}
    for name in ("database", "project"):
        if name in options:
            given += [f"--{name}", options[name]]
    return shlex.join(["remanence", *given, *words])


def as_text(what: str, given: str) -> str:
    """What came from outside as text. Python keeps bytes that are none as halves of characters; no journal takes those.

    Raises InvalidInput, before anything is begun.
    """
    try:
        given.encode()
    except UnicodeEncodeError:
        try:
            # A locale that is not UTF-8 takes for halves what is text all the same.
            return os.fsencode(given).decode()
        except UnicodeError:
            shown = given[:40].encode("ascii", "backslashreplace").decode()
            raise InvalidInput(f"{what} is not text in UTF-8: '{shown}'. Nothing was begun.", param="input") from None
    return given


def leave(code: int) -> NoReturn:
    """End the command with this exit code, in order."""
    raise click.exceptions.Exit(code)


def asynchronous(
    function: Callable[Concatenate[Invocation, P], Coroutine[Any, Any, R]],
) -> Callable[P, R]:
    """A command written as a coroutine that takes the `Invocation` first."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        from remanence.cli.leaving import run

        return run(function(_invocation(click.get_current_context()), *args, **kwargs))

    return command


# --- options that are taken everywhere --------------------------------------------------------------------------------


def _invocation(context: click.Context) -> Invocation:
    return context.find_root().ensure_object(Invocation)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    invocation = _invocation(context)
    match parameter.name:
        case "config":
            invocation.config = value
        case "person":
            invocation.name = value
        case "debug":
            invocation.debug = value
        case "direct":
            invocation.direct = value
        case name:
            invocation.options[str(name)] = value


def _shared(*names: str, **kwargs: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_keep, **kwargs)


def _shared_options() -> list[click.Parameter]:
    return [
        _shared("--config", type=click.Path(path_type=Path), metavar="FILE", help="The settings file."),
        _shared("--database", metavar="URL", help="sqlite:///PATH or postgresql://..."),
        _shared("--project", metavar="NAME", help="The tenant."),
        _shared("--as", "person", metavar="NAME", help="Who you are, in the journal. Default: REMANENCE_USER, or you."),
        _shared(
            "--direct",
            is_flag=True,
            envvar="REMANENCE_DIRECT",
            help="Ask the database itself, also when a server runs. REMANENCE_DIRECT=1 does the same.",
        ),
        _shared("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
        _shared("--debug", is_flag=True, help="Show the traceback of an error."),
    ]


class _Everywhere(click.Command):
    """A command or a group that takes the common options and lists them apart from its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*own[:-1], *_shared_options(), *own[-1:]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shared = {option.name for option in _shared_options()}
        own: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (everywhere if parameter.name in shared or "--help" in parameter.opts else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        with formatter.section("Options of every command"):
            formatter.write_dl(everywhere)


class Command(_Everywhere):
    """A verb. `shape` is the type of what `-o json` prints (None: the command prints no data)."""

    def __init__(self, *args: Any, shape: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shape = shape
        if shape is not None:
            self.params.append(
                click.Option(
                    ["-o", "--output"],
                    type=click.Choice(["table", "json", "jsonl"]),
                    default="table",
                    show_default=True,
                    help="How to print the answer.",
                )
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Stdout is for its answer, whatever the code of agents and tools prints."""
        if self.shape is None:
            return super().invoke(ctx)
        with prints_aside():
            return super().invoke(ctx)


class Group(_Everywhere, click.Group):
    """A noun."""

    command_class = Command
    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs, each with its first sentence, whole."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(200)) for name, command in found if command])
