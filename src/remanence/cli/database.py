"""`db`: the database as a thing to look after."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import click
import msgspec

from remanence.cli.command import Format, Group, Invocation, asynchronous, leave, spelled
from remanence.cli.output import counted, facts, note, say, show, table
from remanence.commands.copying import Copied

__all__ = ["db"]

_DAY_US = 86_400_000_000
_UNITS = {"h": _DAY_US // 24, "d": _DAY_US, "w": 7 * _DAY_US}


@click.group(cls=Group)
def db() -> None:
    """Migrate, measure, copy and back up the database."""


class MigratedShape(msgspec.Struct, frozen=True):
    """What was done to the schema: the migrations applied now, in order, and the newest the database has."""

    database: str
    applied: list[str]
    schema: int


class StatusShape(msgspec.Struct, frozen=True):
    """A database as it is. `schema` is the newest migration it has, `known` the newest this release has. `durability`
    and what follows are null while migrations are pending: it is not opened then."""

    database: str
    schema: int
    known: int
    pending: list[str]
    durability: str | None
    bytes: int | None
    bytes_free: int | None
    sessions: int | None


class StatsShape(msgspec.Struct, frozen=True):
    """Counts and sizes. `sessions` by status; `bytes_free` is room inside the file that is used again (SQLite)."""

    backend: str
    schema: int
    durability: str
    sessions: dict[str, int]
    records: int
    blobs: int
    bytes: int
    bytes_free: int | None


class PrunedShape(msgspec.Struct, frozen=True):
    """How many idempotency keys were forgotten: those used before a moment."""

    keys: int
    before: int


class BackupShape(msgspec.Struct, frozen=True):
    """A backup that is complete: a SQLite database of its own. `copied` is null when it was copied page by page."""

    path: str
    bytes: int
    copied: Copied | None


# --- the schema -------------------------------------------------------------------------------------------------------


@db.command(shape=MigratedShape)
@asynchronous
async def migrate(call: Invocation, *, output: Format) -> None:
    """Bring the schema up to date; make the database when it is missing.

    Every command that opens the database does the same. This one is for those who want to see it happen.
    """
    from remanence.stores.schema_state import migrate as apply
    from remanence.stores.schema_state import schema_state

    url = call.configuration.settings.database
    applied = await apply(url)
    answer = MigratedShape(_shown(url), list(applied), (await schema_state(url)).current)
    words = f"Applied {', '.join(applied)}." if applied else "Nothing to do."
    show(answer, output, lambda: say(f"{words} {answer.database} has schema {answer.schema}."))


@db.command(shape=StatusShape)
@asynchronous
async def status(call: Invocation, *, output: Format) -> None:
    """Schema, pending migrations, durability and size. Changes nothing.

    Exit code 1 while migrations are pending.
    """
    from remanence.stores.schema_state import schema_state

    url = call.configuration.settings.database
    state = await schema_state(url)
    stats: dict[str, Any] = {}
    if not state.pending:
        async with call.reach() as reach:
            stats = (await reach.figures.health()).database
    answer = StatusShape(
        database=_shown(url),
        schema=state.current,
        known=state.known,
        pending=list(state.pending),
        durability=stats.get("durability"),
        bytes=stats.get("bytes"),
        bytes_free=stats.get("bytes_free"),
        sessions=sum(stats["sessions"].values()) if stats else None,
    )
    show(answer, output, lambda: _print_status(answer))
    if state.pending:
        leave(1)


def _print_status(answer: StatusShape) -> None:
    facts(
        [
            ("database", answer.database),
            ("schema", f"{answer.schema} of {answer.known}{'' if answer.pending else ', up to date'}"),
            ("pending", ", ".join(answer.pending)),
            ("durability", answer.durability or ""),
            ("size", _size(answer.bytes, answer.bytes_free)),
            ("sessions", "" if answer.sessions is None else f"{answer.sessions:,}"),
        ]
    )
    if answer.pending:
        note(f"Stop what uses the database, make a backup, then: {spelled('db', 'migrate')}")


@db.command(shape=StatsShape)
@asynchronous
async def stats(call: Invocation, *, output: Format) -> None:
    """Counts and sizes: sessions by status, records, blobs, bytes."""
    async with call.reach() as reach:
        found = (await reach.figures.health()).database
    answer = msgspec.convert({"bytes_free": None, **found}, StatsShape)
    show(answer, output, lambda: _print_stats(answer))


def _print_stats(answer: StatsShape) -> None:
    facts(
        [
            ("backend", f"{answer.backend}, schema {answer.schema}, {answer.durability}"),
            ("records", f"{answer.records:,}"),
            ("blobs", f"{answer.blobs:,}"),
            ("size", _size(answer.bytes, answer.bytes_free)),
        ]
    )
    say()
    rows = [(status, f"{count:,}") for status, count in answer.sessions.items()]
    table(["STATUS", "SESSIONS"], rows, empty="There are no sessions.")


# --- upkeep -----------------------------------------------------------------------------------------------------------


@db.command(shape=PrunedShape)
@click.option("--older-than", default="1d", show_default=True, metavar="AGE", help="Such as 12h, 30d or 8w.")
@asynchronous
async def prune(call: Invocation, *, older_than: str, output: Format) -> None:
    """Forget old idempotency keys.

    Workers do the same once in a while, after `worker.key_s`. A request that comes again with a forgotten key is a new
    request. Journals are not touched.
    """
    found = re.fullmatch(r"(\d{1,4})([hdw])", older_than)
    if found is None:
        raise click.BadParameter("give a number and h, d or w, such as 30d.", param_hint="--older-than")
    async with call.caller() as caller:
        before = caller.clock.now() - int(found[1]) * _UNITS[found[2]]
        keys = await caller.database.prune_keys(before=before)
    show(PrunedShape(keys, before), output, lambda: say(f"Forgot {keys:,} idempotency keys older than {older_than}."))


@db.command(shape=BackupShape)
@click.argument("file", type=click.Path(path_type=Path))
@asynchronous
async def backup(call: Invocation, file: Path, *, output: Format) -> None:
    """Back up everything into one SQLite file, while the database is used.

    The file is a database of its own: look into it with --database, or copy it back with `db copy`.
    """
    from remanence.commands.copying import backup_database

    async with call.caller() as caller:
        copied = await backup_database(caller.database, file, _told if output == "table" else None)
    answer = BackupShape(str(file), (await asyncio.to_thread(file.stat)).st_size, copied)
    _note_refused(copied)
    show(answer, output, lambda: say(f"{file}: {_size(answer.bytes, None)}, complete."))
    if copied is not None and copied.refused:
        leave(1)


@db.command("copy", shape=Copied)
@click.argument("target", metavar="URL")
@asynchronous
async def copy_(call: Invocation, target: str, *, output: Format) -> None:
    """Copy everything into another database, of either kind: sessions, agents, budgets, freezes.

    URL is sqlite:///PATH or postgresql://...; what is missing there is made. Stop the workers first. A copy that was
    interrupted is finished by the same command. Exit code 1 when a session could not be copied.
    """
    from remanence.app import open_database
    from remanence.commands.copying import copy_database

    async with call.caller() as caller:
        there = await open_database(target)
        try:
            copied = await copy_database(caller.database, there, _told if output == "table" else None)
        finally:
            await there.close()
    if copied.held:
        held = counted(copied.held, "session")
        note(f"A worker held {held} meanwhile: stop it and copy again, else its last words are missing.")
    _note_refused(copied)
    show(copied, output, lambda: _print_copied(copied, _shown(target)))
    if copied.refused:
        leave(1)


def _print_copied(copied: Copied, target: str) -> None:
    say(f"{target}: {counted(copied.sessions, 'session')} with {counted(copied.records, 'record')} and")
    say(f"{counted(copied.blobs, 'blob')}, {counted(copied.versions, 'version of an agent', 'versions of agents')},")
    say(f"{counted(copied.entries, 'key or other declaration', 'keys and other declarations')},")
    say(f"{counted(copied.budgets, 'budget')}, {counted(copied.holds, 'freeze')}.")
    if copied.present:
        say(f"There already, and left as it is: {counted(copied.present, 'session')}.")


def _note_refused(copied: Copied | None) -> None:
    for one in copied.refused if copied else ():
        note(f"Not copied: {one.session}: {one.why}")


def _told(session: str) -> None:
    """Progress, on one line of the terminal."""
    import sys

    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{session}\r")
        sys.stderr.flush()


# --- words ------------------------------------------------------------------------------------------------------------


def _shown(url: str) -> str:
    """A database's URL without a password."""
    if url.startswith("sqlite:"):
        return url
    from remanence.stores.postgres.connect import shown

    return shown(url)


def _size(size: int | None, free: int | None) -> str:
    if size is None:
        return ""
    words = f"{size / 1_000_000:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
    return f"{words}, {free / size:.0%} of it free to be used again" if free and size else words
