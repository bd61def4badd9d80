"""What `doctor` looks at. Each check answers with findings; none changes anything, spends anything, or prints a key.

But for what opening a database does by itself: a full-text index that cannot be read is made again then."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from remanence.cli.command import spelled
from remanence.core.freezes import covered, plain_scope
from remanence.core.ledger import DEFAULT_PROJECT
from remanence.errors import Conflict, InvalidConfig, NotFound, RemanenceError
from remanence.ports import Database, SessionQuery, SessionRow

if TYPE_CHECKING:
    from remanence.commands.caller import Caller
    from remanence.commands.verification import Verification
    from remanence.settings import Configuration

__all__ = [
    "Finding",
    "check_agents",
    "check_data",
    "check_installation",
    "check_models",
    "check_port",
    "check_server",
]

PYTHON_MIN = (3, 11)
SQLITE_MIN = (3, 35, 0)
DISK_BAD_BYTES = 100_000_000
DISK_LOW_BYTES = 1_000_000_000
FSYNC_SLOW_S = 0.05
CLOCK_SLACK_US = 60_000_000
STALE_US = 60_000_000
CLOCK_MIN_US = 1_750_000_000_000_000
"""The summer of 2025: no clock that is right says less."""
PAGES_S, JOURNALS_S = 5.0, 3.0
"""How long the pages of a file, and the journals of sessions, are looked at: `sessions verify --all` sees them all."""
SERVER_S = 10.0
"""How long a server that runs is waited for."""
SHOWN_MAX = 500
"""How many sessions of one status are looked at."""

_FORGETFUL = {"tmpfs", "ramfs"}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"}

State = Literal["ok", "warning", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """One check: `ok`, `warning` (it works, and may not be what you want) or `wrong`; what was found, what to do."""

    check: str
    state: State
    found: str
    advice: str = ""


# --- the installation -------------------------------------------------------------------------------------------------


def check_installation() -> Iterator[Finding]:
    """Python, SQLite, and the packages this release needs."""
    python = sys.version.split()[0]
    if sys.version_info < PYTHON_MIN:
        yield Finding("python", "wrong", python, "Use Python 3.11 or newer.")
    else:
        yield Finding("python", "ok", f"{python}, {sys.platform}")
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        yield Finding("sqlite", "wrong", sqlite3.sqlite_version, "Use a Python built with SQLite 3.35 or newer.")
    else:
        yield Finding("sqlite", "ok", sqlite3.sqlite_version)
    missing = sorted(name for name in _needed() if not _is_installed(name))
    if missing:
        yield Finding("packages", "wrong", f"missing: {', '.join(missing)}", "Install again: pip install remanence")
    else:
        yield Finding("packages", "ok", f"remanence {version_of('remanence')}, all of its packages are here")


def _needed() -> Iterator[str]:
    for requirement in requires("remanence") or ():
        if "extra ==" not in requirement:
            yield requirement.split(";")[0].split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip(" (")


def _is_installed(name: str) -> bool:
    try:
        version_of(name)
    except PackageNotFoundError:
        return False
    return True


# --- agents, models, port ---------------------------------------------------------------------------------------------


def check_agents(configuration: Configuration) -> Iterator[Finding]:
    """The agents of the settings load."""
    from remanence.cli.opening import agents_of

    try:
        agents = agents_of(configuration)
    except RemanenceError as error:
        yield Finding("agents", "wrong", error.message, "Mend the declaration; the sessions are not touched by it.")
        return
    if agents:
        yield Finding("agents", "ok", ", ".join(agents))
    else:
        advice = f"Name them in the setting `agents`, or begin with: {spelled('init', 'hello')}"
        yield Finding("agents", "warning", "none are declared", advice)


async def check_models(configuration: Configuration, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """The default model can be used, and what else could be. Keys are looked for, never shown, never sent."""
    from remanence.cli.opening import models_of
    from remanence.models.detect import detect

    default = configuration.settings.model
    try:
        models_of(configuration)
    except RemanenceError as error:
        yield Finding("model", "wrong", error.message, f"Choose another: {spelled('models', 'list')}")
        return
    usable = True
    detected = await detect(
        configuration.settings.models, environment, default=default if default != "scripted" else ""
    )
    for one in detected:
        if one.source == "configuration" and one.note:
            state: State = "wrong" if one.model == default else "warning"
            usable = usable and one.model != default
            yield Finding(f"model {one.model}", state, one.note, "Set that variable, or choose another model.")
    others = [one.label for one in detected if one.source in ("environment", "server")]
    found = f"{default}; also here: {', '.join(others)}" if others else default
    if default == "scripted":
        advice = spelled("models", "detect") if others else spelled("models", "add", "--help")
        yield Finding("model", "warning", f"{found}: no language model is configured", f"Choose one: {advice}")
    elif usable:
        yield Finding("model", "ok", found)


def check_port(configuration: Configuration) -> Iterator[Finding]:
    """The HTTP server could listen, or listens already."""
    from remanence.cli.serving import listen

    host, port = configuration.settings.host, configuration.settings.port
    try:
        listener: socket.socket = listen(host, port)
    except (Conflict, InvalidConfig) as error:
        ours = "remanence" in error.message
        words = error.message.split(" Nothing was started")[0]
        yield Finding(
            "port", "ok" if ours else "wrong", words, "" if ours else "Choose another with the setting `port`."
        )
        return
    listener.close()
    yield Finding("port", "ok", f"{port} of {host} is free")


async def check_server(configuration: Configuration, person: str) -> AsyncIterator[Finding]:
    """What the server that runs for this database says of itself. Nothing is found where none runs."""
    from remanence.cli.reaching import server_reached

    advice = "Look at what it logs; if that says nothing, start it again."
    try:
        async with asyncio.timeout(SERVER_S), server_reached(configuration, person) as reach:
            if reach is None:
                return
            url, health = reach.url, await reach.figures.health()
    except TimeoutError:
        yield Finding("server", "wrong", f"it did not answer within {SERVER_S:g} s", advice)
        return
    except RemanenceError as error:
        yield Finding("server", "wrong", error.message, advice)
        return
    for name, found in health.checks.items():
        if not found.startswith("ok"):
            yield Finding(f"server: {name}", "wrong", f"of {url}: {found}", advice)
    if health.ready:
        yield Finding("server", "ok", f"{url} is ready; worker: {health.checks['worker'].removeprefix('ok: ')}")


# --- where the data lies ----------------------------------------------------------------------------------------------


async def check_data(configuration: Configuration, open_caller: Callable[[], Any], now: int) -> AsyncIterator[Finding]:
    """The database, its disk, the clock, and the sessions in it. `now` in microseconds."""
    from remanence.stores.schema_state import schema_state

    yield _check_clock(now)
    url = configuration.settings.database
    if url.startswith("sqlite:///"):
        for finding in await asyncio.to_thread(lambda: list(_check_disk(Path(url.removeprefix("sqlite:///"))))):
            yield finding
    try:
        state = await schema_state(url)
    except NotFound as error:
        yield Finding("database", "warning", error.message, "It is made by the first command that needs it.")
        return
    except RemanenceError as error:
        yield Finding("database", "wrong", error.message, "See the message; nothing was changed.")
        return
    if state.pending:
        found = f"schema {state.current} of {state.known}; pending: {', '.join(state.pending)}"
        yield Finding("database", "warning", found, f"Make a backup, then: {spelled('db', 'migrate')}")
        return
    try:
        file = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ""
        lost = bool(file) and await asyncio.to_thread(_words_are_lost, file)
        async with open_caller() as caller:
            if lost:  # whoever opens the file makes it again, where it can be written
                yield await asyncio.to_thread(_check_words, file)
            async for finding in _check_database(caller.database, now):
                yield finding
            if file:
                yield await asyncio.to_thread(_check_pages, file)
            yield await _check_journals(caller)
    except RemanenceError as error:
        yield Finding("database", "wrong", error.message, "See the message; what was acknowledged is kept.")


def _check_clock(now: int) -> Finding:
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now / 1_000_000))
    if now < CLOCK_MIN_US:
        return Finding("clock", "wrong", f"it says {shown}", "Set the clock (timedatectl set-ntp true).")
    return Finding("clock", "ok", shown)


def _check_disk(path: Path) -> Iterator[Finding]:
    folder = next(place for place in (path.absolute().parent, *path.absolute().parents) if place.is_dir())
    kind = _file_system(folder)
    if kind in _REMOTE:
        advice = "Put the database on a local disk, or use PostgreSQL: SQLite's log is not safe over a network."
        yield Finding("file system", "wrong", f"{folder} is on {kind}", advice)
    elif kind in _FORGETFUL:
        advice = "Put the database on a disk, unless it may go with the machine."
        yield Finding("file system", "warning", f"{folder} is on {kind}, in memory", advice)
    free = shutil.disk_usage(folder).free
    words = f"{free / 1_000_000_000:,.1f} GB free at {folder}"
    if free < DISK_LOW_BYTES:
        advice = "Make room: when the disk is full nothing is lost, and nothing new is accepted."
        yield Finding("disk", "wrong" if free < DISK_BAD_BYTES else "warning", words, advice)
    else:
        yield Finding("disk", "ok", words)
    yield _check_fsync(folder)


def _check_fsync(folder: Path) -> Finding:
    """Write and sync a small file, as every commit does."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            taken: list[float] = []
            for _ in range(5):
                file.write(b"x" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                taken.append(time.perf_counter() - began)
    except OSError as error:
        return Finding(
            "writing", "wrong", f"{folder}: {error.strerror}", "Check the folder's permissions and the disk."
        )
    median = sorted(taken)[2]
    words = f"a synced write takes {median * 1_000:.2f} ms"
    if median > FSYNC_SLOW_S:
        return Finding("writing", "warning", words, "Each step of a session waits for this; a faster disk helps.")
    return Finding("writing", "ok", words)


def _file_system(folder: Path) -> str:
    """The kind of file system a folder is on, where the system tells."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    mounts = [line.split(" ") for line in lines]
    under = [mount for mount in mounts if len(mount) > 2 and folder.is_relative_to(mount[1])]
    return max(under, key=lambda mount: len(mount[1]), default=["", "", ""])[2]


async def _check_database(database: Database, now: int) -> AsyncIterator[Finding]:
    stats = await database.views.stats()
    durability = str(stats["durability"])
    if durability.startswith("read only"):
        words = f"{stats['backend']}, schema {stats['schema']}, {durability}: sessions can be read, and nothing written"
        yield Finding("database", "wrong", words, "Work where the file and its folder can be written.")
        async for finding in _check_sessions(database, now):
            yield finding
        return
    began = time.perf_counter()
    # It takes the write lock and changes nothing.
    await database.prune_keys(before=0)
    words = f"{stats['backend']}, schema {stats['schema']}, {durability}; the write lock took "
    words += f"{(time.perf_counter() - began) * 1_000:.1f} ms"
    if "loses data" in durability:
        yield Finding("database", "wrong", words, "Turn fsync on in the server's configuration.")
    else:
        yield Finding("database", "ok", words)
    newest = await database.views.sessions(SessionQuery(limit=1))
    if newest and newest[0].updated_at > now + CLOCK_SLACK_US:
        ahead_s = (newest[0].updated_at - now) / 1_000_000
        advice = "The clock was set back, or another machine's runs ahead: timers wait until it catches up."
        yield Finding("clock and journal", "warning", f"a record is {ahead_s:,.0f} s in the future", advice)
    async for finding in _check_sessions(database, now):
        yield finding


def _words_are_lost(path: str) -> bool:
    from remanence.stores.sqlite.pages import words_are_lost

    return words_are_lost(path)


def _check_words(path: str) -> Finding:
    """An index of words that could not be read before the file was opened."""
    words = "SQLite's full-text index could not be read: nothing was found in it, and nothing could be erased from it"
    if _words_are_lost(path):
        return Finding("search", "wrong", words, "Open the database where it can be written: it is made again then.")
    advice = "Nothing is to be done, and nothing is lost."
    return Finding("search", "warning", f"{words}. It was made again from its texts just now", advice)


def _check_pages(path: str) -> Finding:
    """What nobody asks for nobody misses: a page that is damaged may lie under a session of last year."""
    from remanence.stores.sqlite.pages import look_at_pages

    pages = look_at_pages(path, timeout_s=PAGES_S)
    if pages.fault:
        advice = f"Which sessions are whole: {spelled('sessions', 'verify', '--all')}"
        return Finding("pages", "wrong", pages.fault, advice)
    if not pages.all_seen:
        return Finding("pages", "ok", f"what could be looked at in {PAGES_S:g} s is as it should be")
    return Finding("pages", "ok", "every page of the file is one of a database")


async def _check_journals(caller: Caller) -> Finding:
    """Whether the journals of the sessions that changed last are what was written: lists do not read them."""
    from remanence.commands.verification import sessions_all, verify_session

    whole, everything = 0, True
    try:
        async with asyncio.timeout(JOURNALS_S):
            async for session in sessions_all(caller):
                found = await verify_session(caller, session)
                if not found.sound:
                    return _unsound(found)
                whole += 1
    except TimeoutError:
        everything = False
    words = f"{whole} sessions are as they were written" + ("" if everything else ", those that changed last")
    return Finding("journals", "ok", words)


def _unsound(found: Verification) -> Finding:
    advice = f"What is wrong, and where else: {spelled('sessions', 'verify', '--all')}"
    if found.fault is not None:
        words = f"session {found.session} is listed, and its journal is damaged at record {found.fault.position}: "
        return Finding("journals", "wrong", words + found.fault.what, advice)
    wrong = found.wrong_snapshots[0]
    words = f"a snapshot of session {found.session} is wrong, at record {wrong.position}: {wrong.what}"
    return Finding("journals", "wrong", words, advice)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def _check_sessions(database: Database, now: int) -> AsyncIterator[Finding]:
    rows: dict[str, SessionRow] = {}
    for status in (None, "in_progress", "queued", "waiting"):
        found = await database.views.sessions(SessionQuery(status=status, limit=SHOWN_MAX))
        rows |= {row.session: row for row in found}
    until = [row.lease_until for row in rows.values() if row.lease_until is not None]
    due = [row.wake_at for row in rows.values() if row.lease_until is None and row.wake_at is not None]
    stale, late = (sum(moment < now - STALE_US for moment in moments) for moments in (until, due))
    if stale or late:
        words = f"sessions held by a worker that is gone: {stale}; due, and nobody takes them: {late}"
        yield Finding("workers", "wrong", words, f"Run one that has their agents: {spelled('worker')}")
    else:
        yield Finding("workers", "ok", "no session waits for a worker")
    waits = (
        ("doubt", "sessions with effects nobody can vouch for", spelled("doubts", "list")),
        ("approval", "sessions with calls that wait for an approval", spelled("approvals", "list")),
        ("answer", "sessions with questions to a person", spelled("approvals", "list")),
        ("budget", "sessions that reached a budget", spelled("budgets", "list")),
    )
    for waiting_on, words, command in waits:
        resting = await database.views.sessions(SessionQuery(waiting_on=waiting_on, limit=SHOWN_MAX))
        if resting:
            more = " or more" if len(resting) == SHOWN_MAX else ""
            yield Finding(f"waiting: {waiting_on}", "warning", f"{words}: {len(resting)}{more}", command)
    for hold in await database.controls.holds():
        words = f"{_frozen(hold.scope)} is frozen by {hold.by}{f': {hold.reason}' if hold.reason else ''}"
        yield Finding("freeze", "warning", words, f"It is lifted by: {_thaw(hold.scope)}")


def _frozen(scope: str) -> str:
    project, agent = covered(scope) or (None, None)
    within = "" if agent is None or project == DEFAULT_PROJECT else f" in project {project}"
    return f"{plain_scope(scope)}{within}"


def _thaw(scope: str) -> str:
    project, agent = covered(scope) or (None, None)
    if project is None:
        return spelled("sessions", "thaw", "--all")
    flags = ("--whole-project",) if agent is None else ("--agent", agent)
    return spelled("sessions", "thaw", *flags, project=project)
