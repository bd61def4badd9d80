"""`sessions export`, `import` and `verify`: a session as one file, and whether a journal is what was written."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from remanence.cli.command import Command, Format, Invocation, asynchronous, leave, spelled
from remanence.cli.output import counted, note, say, show, stdout, table
from remanence.commands.transfer import Exported, Imported
from remanence.commands.verification import Verification

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
    async with call.reach(create=True) as reach:
        found = await reach.moving.lay_down(file, as_session)
    words = f"{found.session}: {counted(found.records, 'record')} of agent {found.agent}, {found.status}. Go on with:"
    show(found, output, lambda: say(f"{words}\n  {spelled('chat', '--session', found.session)}"))


@click.command(cls=Command, shape=list[Verification])
@click.argument("sessions", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every session of the project.")
@asynchronous
async def verify(call: Invocation, sessions: tuple[str, ...], *, everything: bool, output: Format) -> None:
    """Check that a journal is what was written: every record, link and blob.

    Exit code 1 when something is wrong. The head's digest stands for the whole journal: note it elsewhere, and nobody
    can rewrite the journal unseen.
    """
    from remanence.cli.choosing import session_called

    if bool(sessions) == everything:
        raise click.UsageError("Give the sessions to verify, or --all.")
    found: list[Verification] = []
    async with call.reach() as reach:
        if everything:
            # Whatever a session inherits is verified where it was written.
            found += [await reach.moving.verify(name, inherited=False) async for name in reach.moving.every()]
        found += [await reach.moving.verify(await session_called(reach, name)) for name in sessions]
    show(found, output, lambda: _print_verified(found))
    leave(0 if all(result.intact for result in found) else 1)


def _print_verified(found: list[Verification]) -> None:
    rows = [
        (
            result.session,
            "intact" if result.intact else counted(result.faults, "fault"),
            str(result.records),
            str(result.inherited),
            str(result.redacted),
            result.head_digest[:16],
        )
        for result in found
    ]
    columns = ("SESSION", "JOURNAL", "RECORDS", "INHERITED", "ERASED", "HEAD DIGEST")
    table(columns, rows, empty="There is no session to verify.")
    for result in found:
        if result.fault is not None:
            note(f"{result.fault.session}, record {result.fault.position}: {result.fault.what}")
