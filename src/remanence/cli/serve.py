"""`serve`, `worker` and `dev`: the processes that do the work."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from remanence.cli.command import Command, Invocation, Whole, asynchronous, leave
from remanence.cli.output import note
from remanence.errors import RemanenceError

if TYPE_CHECKING:
    import socket

    from remanence.agent import Agent
    from remanence.api.app import Serving
    from remanence.app import Remanence
    from remanence.cli.serving import Ending, Handed
    from remanence.models.detect import Detected
    from remanence.settings import Configuration

__all__ = ["dev", "serve", "worker"]

_KEY_HANDED_ON = "_REMANENCE_DEVELOPMENT_KEY"
"""The variable through which a restart of `dev` keeps the key it printed."""

_host = click.option(
    "--host", metavar="ADDRESS", help="Where to listen. Default: the setting `host`, this machine only."
)
_port = click.option(
    "--port", type=Whole(0, 65535), metavar="PORT", help="Default: the setting `port`. 0 takes any free one."
)


# --- production -------------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@_host
@_port
@click.option("--worker/--no-worker", "with_worker", default=True, show_default=True, help="Run sessions here as well.")
@asynchronous
async def serve(call: Invocation, *, host: str | None, port: int | None, with_worker: bool) -> None:
    """Run the HTTP server, with a worker in it unless told otherwise.

    SIGTERM and Ctrl-C drain: what runs is finished, sessions are given back. A second one stops at once.
    """
    from remanence.cli.banner import api_lines, console_line, data_line, print_ready, worker_line
    from remanence.cli.opening import runtime_of
    from remanence.cli.serving import Ending, seconds_since_start, until_ended, url_of
    from remanence.runtime.process import settle

    configuration, agents = _prepared(call)
    with _listener(configuration, host, port) as listener:
        async with runtime_of(configuration, actor=call.person, worker=with_worker, agents=agents) as rt:
            ending = Ending(rt)
            with ending.signals():
                async with _http(rt, listener, configuration) as serving:
                    settle()
                    lines = [*api_lines(url_of(listener)), data_line(rt), worker_line(rt, agents)]
                    lines.insert(0, console_line(url_of(listener)))
                    print_ready("server", seconds_since_start(), lines)
                    await until_ended(rt, ending, serving)
    _leave_as(ending)


@click.command(cls=Command)
@asynchronous
async def worker(call: Invocation) -> None:
    """Run due sessions, without an HTTP server.

    As many processes as you like share the work: on one machine, or on many with PostgreSQL. SIGTERM and Ctrl-C drain;
    a second one stops at once.
    """
    from remanence.cli.banner import data_line, print_ready, worker_line
    from remanence.cli.opening import runtime_of
    from remanence.cli.serving import Ending, seconds_since_start, until_ended
    from remanence.runtime.process import settle

    configuration, agents = _prepared(call)
    async with runtime_of(configuration, actor=call.person, agents=agents) as rt:
        settle()
        ending = Ending(rt)
        with ending.signals():
            print_ready("worker", seconds_since_start(), [data_line(rt), worker_line(rt, agents)])
            await until_ended(rt, ending)
    _leave_as(ending)


def _prepared(call: Invocation, *, quiet: bool = False) -> tuple[Configuration, list[Agent]]:
    """The settings and the agents, with logs as the settings say (`quiet`: warnings, unless they say)."""
    from remanence.cli.opening import agents_of, with_functions
    from remanence.logs import configure_command_line

    configuration = call.configuration
    level = configuration.settings.log_level
    level = "warning" if quiet and "log_level" not in configuration.sources else level
    configure_command_line(level, configuration.settings.log_format)
    return configuration, with_functions(agents_of(configuration).values())


def _listener(configuration: Configuration, host: str | None, port: int | None) -> socket.socket:
    from remanence.cli.serving import listen

    settings = configuration.settings
    return listen(host or settings.host, settings.port if port is None else port)


@asynccontextmanager
async def _http(
    rt: Remanence, listener: socket.socket, configuration: Configuration, *, development_key: str = ""
) -> AsyncGenerator[Serving, None]:
    """The HTTP server over an open runtime, meanwhile. `development_key` opens everything in the runtime's project."""
    from remanence.api.app import Serving, build_app
    from remanence.api.auth import Access, Rate, development_principal, local_principal
    from remanence.api.faces import faces
    from remanence.api.guard import BODY_BYTES_MAX
    from remanence.cli.server_file import announcing
    from remanence.cli.serving import answers_to, served, url_of
    from remanence.console.entry import Doors
    from remanence.console.router import ROOMS, open_console

    settings = configuration.settings
    serving, local_key = Serving(), f"rmn_local_{secrets.token_urlsafe(32)}"
    principal = development_principal(settings.project)
    own = {local_key: local_principal(settings.project)} | ({development_key: principal} if development_key else {})
    links = {link_token(development_key): principal} if development_key else {}
    app = build_app(
        rt,
        serving=serving,
        faces=(*faces(), *ROOMS),
        access=Access(rt.caller, own=own, rate=Rate(settings.requests_per_minute, settings.requests_burst)),
        hosts=answers_to(str(listener.getsockname()[0]), (settings.host, *settings.hosts)),
        body_bytes_max=max(BODY_BYTES_MAX, 2 * settings.input_bytes_max),
    )
    app.root_path = settings.root_path
    open_console(app, Doors(links, rt.options.actor, settings.model))
    async with served(app, listener):
        with nullcontext() if rt.options.ephemeral else announcing(configuration, url_of(listener), local_key):
            yield serving


def link_token(development_key: str) -> str:
    """What the printed link to the console shows instead of the key: it signs in, and opens nothing else."""
    return hashlib.sha256(f"console:{development_key}".encode()).hexdigest()[:32]


def _leave_as(ending: Ending) -> None:
    if ending.reason == "worker died":
        note("The worker ended by itself, which it should not; the log says why. What was acknowledged is kept: its")
        note("sessions go on when this is run again.")
        leave(1)
    if ending.cut and ending.reason == "signal":
        leave(1)


# --- development ------------------------------------------------------------------------------------------------------


class _Development(NamedTuple):
    """How `dev` was asked to run."""

    call: Invocation
    handed: Handed | None
    reload: bool
    ephemeral: bool


class _Project(NamedTuple):
    """What it found to run: the settings, the agents, the files they may have come from, and models."""

    configuration: Configuration
    agents: list[Agent]
    files: dict[str, tuple[int, int]]
    detected: list[Detected]


@click.command(cls=Command)
@_host
@_port
@click.option(
    "--reload/--no-reload", default=True, show_default=True, help="Start again when a file it loaded changes."
)
@click.option("--ephemeral", is_flag=True, help="Keep nothing: the sessions end with the process.")
def dev(*, host: str | None, port: int | None, reload: bool, ephemeral: bool) -> None:
    """Run everything on this machine: worker, HTTP server, console.

    Starts again when a file that it loaded changes. Sessions survive: kill it at any time and run it again. SIGTERM and
    Ctrl-C drain; a second one stops at once.
    """
    from remanence.cli.leaving import run
    from remanence.cli.serving import handed_on, restart

    call = click.get_current_context().find_root().ensure_object(Invocation)
    handed = handed_on()
    with handed.listener if handed else _listener(call.configuration, host, port) as listener:
        changed_at = run(_develop(_Development(call, handed, reload, ephemeral), listener))
        if changed_at is not None:
            restart(listener, changed_at)


async def _develop(how: _Development, listener: socket.socket) -> float | None:
    """Run until a signal (None) or until a file has changed: when that was seen, in seconds since 1970."""
    from remanence.cli.opening import runtime_of
    from remanence.cli.reloading import changed_file, files_of

    files = await asyncio.to_thread(files_of, _root())
    try:
        configuration, agents = _prepared(how.call, quiet=True)
        runtime = runtime_of(configuration, actor=how.call.person, agents=agents, ephemeral=how.ephemeral)
    except RemanenceError as error:
        if how.handed is None:
            raise
        note(f"remanence: {error.message}\nThe sessions are safe. Waiting for a file to change; Ctrl-C ends it.")
        await changed_file(_root(), files)
        return time.time()
    detecting = asyncio.create_task(_detected(configuration))
    async with runtime as rt:
        return await _serve_changing(how, rt, listener, _Project(configuration, agents, files, await detecting))


async def _serve_changing(how: _Development, rt: Remanence, listener: socket.socket, project: _Project) -> float | None:
    from remanence.cli.serving import Ending, until_ended

    ending = Ending(rt)
    with ending.signals():
        async with _http(rt, listener, project.configuration, development_key=_development_key()) as serving:
            _print_dev(how, rt, listener, project)
            if how.handed is None and project.configuration.settings.open_browser:
                await asyncio.to_thread(_open_console, console_url(listener))
            watch = asyncio.create_task(_watch(project, ending)) if how.reload else None
            await until_ended(rt, ending, serving)
            if watch is not None:
                watch.cancel()
    _leave_as(ending)
    return ending.asked_at if ending.reason == "changed" else None


def _print_dev(how: _Development, rt: Remanence, listener: socket.socket, project: _Project) -> None:
    from remanence.cli.banner import Line, api_lines, console_line, data_line, model_line, print_ready, try_lines
    from remanence.cli.serving import seconds_since_start, url_of

    names = ", ".join(agent.spec.name for agent in project.agents)
    lines = [
        console_line(console_url(listener)),
        *api_lines(url_of(listener)),
        Line("Key", _development_key(), "of this run; REMANENCE_API_KEY chooses it, `remanence keys` makes others"),
        data_line(rt),
        Line("Agents", names or "none", f"{project.configuration.file}" if project.configuration.file else ""),
        model_line(project.configuration, project.agents, project.detected),
        Line("Telemetry", "none"),
        *try_lines(project.agents, ephemeral=how.ephemeral),
    ]
    print_ready("again," if how.handed else "", seconds_since_start(how.handed), lines)


def console_url(listener: socket.socket) -> str:
    """Where the console of `dev` is, with what signs in whoever opens it."""
    from remanence.cli.serving import url_of

    return f"{url_of(listener)}/?token={link_token(_development_key())}"


def _open_console(url: str) -> None:
    """Show the console, where there is a person with a screen: never a text browser in this terminal."""
    import webbrowser

    has_screen = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if sys.stdout.isatty() and has_screen:
        webbrowser.open(url)


def _development_key() -> str:
    """The key that opens everything here: the one that was chosen, or one made for this run and its restarts."""
    return os.environ.get("REMANENCE_API_KEY") or os.environ.setdefault(
        _KEY_HANDED_ON, f"rmn_development_{secrets.token_urlsafe(24)}"
    )


async def _watch(project: _Project, ending: Ending) -> None:
    from remanence.cli.reloading import changed_file, loaded_files
    from remanence.settings import FILE_NAME

    root, settings = _root(), project.configuration.settings
    named = [root / FILE_NAME, *(project.configuration.root / target.partition(":")[0] for target in settings.agents)]
    changed = await changed_file(root, project.files, lambda: loaded_files(named))
    note(f"{changed} has changed: starting again once what runs is finished.")
    ending.ask("changed")


async def _detected(configuration: Configuration) -> list[Detected]:
    from remanence.models.detect import detect

    return await detect(configuration.settings.models, os.environ)


def _root() -> Path:
    """The project's folder, found without reading its settings: they may be what is broken."""
    from remanence.settings import FILE_NAME

    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / FILE_NAME).is_file()), here)
