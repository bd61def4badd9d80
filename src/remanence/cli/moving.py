"""`sessions export`, `import` and `verify`: a session as one file, and whether a journal is what was written."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from remanence.cli.command import Command, Format, Invocation, asynchronous, leave, spelled
from remanence.cli.output import counted, note, say, show, stdout, table
from remanence.commands.transfer import Exported, Imported
from remanence.commands.verification import Fault, Verification
from remanence.errors import NotFound

__all__ = ["export", "import_", "verify"]


@click.command(cls=Command, shape=Exported)
@click.argument("session", metavar="ID")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@asynchronous
async def export(call: Invocation, session: str, file: Path | None, *, output: Format) -> None:
    """Write a session into one file: journal, blobs, the agent's versions. No secrets.

    FILE is ID.remanence unless given; - writes to stdout. The journal is verified first; a damaged one is not exported.
    """
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        found = await session_called(reach, session)
        if str(file) == "-":
            # Whole before its first byte leaves: whoever reads a pipe cannot tell half a file from damage.
            with tempfile.TemporaryFile(prefix="remanence-export-") as whole:
                await reach.moving.export(found, whole)
                whole.seek(0)
                shutil.copyfileobj(whole, stdout().buffer)
            return
        target = file or Path(f"{found}.remanence")
        exported = await reach.moving.export(found, target)
    show(exported, output, lambda: _print_export(exported, target))


def _print_export(exported: Exported, target: Path) -> None:
    say(
        f"{target}: {counted(exported.records, 'record')}, {counted(exported.blobs, 'blob')}, "
        f"{counted(exported.versions, 'version')} of the agent."
    )
    if exported.missing_blobs:
        note(f"Of the blobs it names {len(exported.missing_blobs)} could not be found any more; the file says which.")
    if exported.in_turn:
        note("The session is in the middle of a turn: freeze it here before you let it go on elsewhere.")
    say(f"Elsewhere:\n  remanence sessions import {target.name}")


@click.command("import", cls=Command, shape=Imported)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as-session", metavar="ID", help="Under this id. Default: the one it had.")
@asynchronous
async def import_(call: Invocation, file: Path, *, as_session: str | None, output: Format) -> None:
    """Lay down an exported session; it goes on here with its very next turn.

    Everything in the file is checked before anything is written.
    """
    from remanence.commands.transfer import check_export

    # Before anything is made: a path that is mistyped leaves no database behind.
    await asyncio.to_thread(check_export, file)
    async with call.reach(create=True) as reach:
        found = await reach.moving.lay_down(file, as_session)
    words = f"{found.session}: {counted(found.records, 'record')} of agent {found.agent}, {found.status}. Go on with:"
    show(found, output, lambda: say(f"{words}\n  {spelled('chat', '--session', found.session)}"))


@click.command(cls=Command, shape=list[Verification])
@click.argument("sessions", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every session of the project.")
@click.option("--mend", is_flag=True, help="Drop snapshots that differ from what the records say.")
@asynchronous
async def verify(call: Invocation, sessions: tuple[str, ...], *, everything: bool, mend: bool, output: Format) -> None:
    """Check that a journal is what was written: every record, link and blob, and the snapshots made from them.

    Exit code 1 when something is wrong. The head's digest stands for the whole journal: note it elsewhere, and nobody
    can rewrite the journal unseen.
    """
    from remanence.cli.choosing import session_called

    if bool(sessions) == everything:
        raise click.UsageError("Give the sessions to verify, or --all.")
    found: list[Verification] = []
    async with call.reach() as reach:
        look = reach.moving.mend if mend else reach.moving.verify
        if everything:
            # Whatever a session inherits is verified where it was written.
            found += [await _listed(look, name) async for name in reach.moving.every()]
        found += [await look(await session_called(reach, name)) for name in sessions]
    show(found, output, lambda: _print_verified(found, spelled("sessions", "verify", *(sessions or ["--all"]))))
    leave(0 if all(result.sound for result in found) else 1)


async def _listed(look: Callable[..., Awaitable[Verification]], name: str) -> Verification:
    """What becomes of a session that a list names: to find none of that name is damage, and no reason to end."""
    try:
        return await look(name, inherited=False)
    except NotFound:
        what = "it is listed, and cannot be found by its name: its row is damaged, or the index of the names"
        return Verification(name, 0, 0, 0, 0, 0, "", 1, Fault(name, 1, what))


def _print_verified(found: list[Verification], command: str) -> None:
    rows = [
        (
            result.session,
            "intact" if result.intact else counted(result.faults, "fault"),
            str(result.records),
            str(result.inherited),
            str(result.redacted),
            f"{len(result.wrong_snapshots)} wrong" if result.wrong_snapshots else str(result.snapshots),
            result.head_digest[:16],
        )
        for result in found
    ]
    columns = ("SESSION", "JOURNAL", "RECORDS", "INHERITED", "ERASED", "SNAPSHOTS", "HEAD DIGEST")
    table(columns, rows, empty="There is no session to verify.")
    if len(found) > 1:
        note(f"{counted(sum(result.sound for result in found), 'session')} of {len(found):,} as written.")
    for result in found:
        if result.fault is not None:
            note(f"{result.fault.session}, record {result.fault.position}: {result.fault.what}")
        if result.unread:
            note(f"{result.session}, {result.unread}")
        for wrong in result.wrong_snapshots:
            note(f"{wrong.session}, snapshot at record {wrong.position}: {wrong.what}")
    _print_mending(found, command)


def _print_mending(found: list[Verification], command: str) -> None:
    """What is true of wrong snapshots, and what to do about them."""
    dropped = sum(len(result.wrong_snapshots) for result in found if result.dropped)
    wrong = [one for result in found if not result.dropped for one in result.wrong_snapshots]
    if dropped:
        note(f"Dropped {counted(dropped, 'snapshot')}. Nothing is lost: the records say it all, and are read instead.")
        note("A process that runs elsewhere may still go on from one: end it and start it again.")
    if wrong:
        note("The records are whole, nothing is lost; what is read through such a snapshot may be wrong.")
        note(f"Drop them, and the records are read instead:\n  {command} --mend")
