"""The table of commands, and what becomes of an error.

The table gives the name, the module and the one-line help of each command, so that `--help` loads none of them. (A test
compares each line with the command it stands for.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, TextIO

import click
from click.shell_completion import CompletionItem

from remanence import __version__
from remanence.cli.command import Group, Invocation, as_text
from remanence.cli.hanging_up import taking_a_hang_up
from remanence.cli.output import NotPrinted, note
from remanence.errors import RemanenceError

__all__ = ["COMMANDS", "Entry", "remanence"]

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended before it had its answer, as shells have it."""


class Entry(NamedTuple):
    """Where a command is defined, and what it is for."""

    module: str
    help: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Begin": {
        "demo": Entry("demo", "A guided tour: real crashes, real resumes, in two minutes."),
        "init": Entry("scaffold", "Make a folder with a first agent in it."),
        "dev": Entry("serve", "Run everything on this machine: worker, HTTP server, console."),
    },
    "Talk": {
        "chat": Entry("chat", "Talk with an agent in the terminal."),
        "run": Entry("run", "Ask an agent once."),
        "attach": Entry("run", "Come back to a session: do its work and follow it."),
    },
    "Look and steer": {
        "sessions": Entry("sessions", "List, read, steer, fork and move sessions."),
        "approvals": Entry("approvals", "Answer calls that wait for a person."),
        "doubts": Entry("doubts", "Settle effects nobody can vouch for."),
        "agents": Entry("agents", "Check, register and compare versions of agents."),
        "deploy": Entry("deploy", "Which version of an agent answers new sessions, and where."),
        "memory": Entry("memory", "What agents remember: search, read, edit, forget."),
        "models": Entry("models", "See, choose, add and try models."),
        "cost": Entry("cost", "What was spent, by agent, user, model or day."),
        "budgets": Entry("budgets", "Limits in money and tokens."),
    },
    "Operate": {
        "serve": Entry("serve", "Run the HTTP server, with a worker in it unless told otherwise."),
        "worker": Entry("serve", "Run due sessions, without an HTTP server."),
        "keys": Entry("keys", "Who may use the HTTP server."),
        "db": Entry("database", "Migrate, measure, copy and back up the database."),
        "doctor": Entry("doctor", "Check this installation and say what to mend."),
        "metrics": Entry("metrics", "Print the figures for Prometheus, in its text format."),
        "completion": Entry("completion", "Print the completion script of a shell."),
    },
}


class Root(Group):
    """`remanence`: loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in COMMANDS.values():
            if cmd_name in section:
                module = import_module(f"remanence.cli.{section[cmd_name].module}")
                return getattr(module, cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named. A misspelt one is told what it resembles."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completions, without loading the commands."""
        entries = [item for section in COMMANDS.values() for item in section.items()]
        found = [CompletionItem(name, help=entry.help) for name, entry in entries if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Whoever read its output may have left, as `head` does: that is no error."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _give_up(sys.stdout)
            return 0
        except NotPrinted:
            _give_up(sys.stdout)
            raise
        return answer

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in section.items()])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run a command line and leave with its exit code. Prints a sentence for an error, never a traceback."""
        invocation = Invocation()
        _open_what_is_closed()
        try:
            words = [as_text("An argument", arg) for arg in (sys.argv[1:] if args is None else args)]
            with taking_a_hang_up():
                code = super().main(words, prog_name, standalone_mode=False, obj=invocation, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nobody above would say it in a sentence
            if invocation.debug and not isinstance(error, click.ClickException):
                _show_traceback()
            code = _report(error)
        try:
            sys.stderr.flush()
        except OSError:
            _give_up(sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


def _open_what_is_closed() -> None:
    """A database must not get the number of a closed stdout: what is printed would be written into it."""
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, mode)
            setattr(sys, name, os.fdopen(file, "w" if mode == os.O_WRONLY else "r", encoding="utf-8"))


def _give_up(stream: TextIO) -> None:
    """What could not be written is lost: Python would complain once more, and change the exit code, at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(error: BaseException) -> int:
    """Say what happened on stderr; the exit code."""
    match error:
        case click.ClickException():
            with suppress(OSError):
                error.show(sys.stderr)
            return error.exit_code
        case RemanenceError():
            note(f"remanence: {error.message}")
            return error.exit_code
        case click.Abort(__cause__=EOFError() as error):
            return _report(error)  # click takes an end of file, wherever one was met, for Ctrl-C
        case click.Abort() | KeyboardInterrupt():
            note("remanence: interrupted. What was acknowledged is kept.")
            return INTERRUPTED
        case FileNotFoundError() if _nowhere():
            click.echo(
                "remanence: The folder you are in does not exist any more. Nothing was done; go to one that does.",
                err=True,
            )
            return 1
        case OSError(filename=str() as path, strerror=str() as why):
            click.echo(
                f"remanence: {path} cannot be used ({why}). What was acknowledged is kept; check the path, its "
                "permissions and the disk, and try again. With --debug the command shows what it needed it for.",
                err=True,
            )
            return 1
        case _:
            note(
                f"remanence: something happened that should not: {type(error).__name__}: {error}\n"
                "The journal is safe: what was acknowledged is on disk, and a session goes on from its last record.\n"
                "Please report it, with what the same command prints with --debug, and `remanence doctor`."
            )
            return 1


def _nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _show_traceback() -> None:
    import traceback

    traceback.print_exc()


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 waiting for a human. "
    "Settings: remanence.toml, REMANENCE_* variables, options; the later wins.",
)
@click.version_option(__version__, prog_name="remanence")
def remanence() -> None:
    """Sessions that survive: a durable, self-hosted runtime for AI agents."""
