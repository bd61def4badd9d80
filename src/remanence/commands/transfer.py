"""Sessions that move: export to a file, import from one.

An export is checked while it is written: a journal that does not verify is not exported, because nobody could tell
later which copy was right. An import checks everything (every member, every link of the chain, every event, every
version and blob the journal needs) before it writes anything, and then lays the journal down in one transaction: the
session goes on in the new database with its very next turn.

Inherited records become the session's own: a bundle stands alone, and digests do not cover whose record it is. What was
erased in the source after the fork is announced anew in the importer's name, so that the journal still explains itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator, Iterable
from importlib.metadata import version as version_of
from itertools import chain
from pathlib import Path
from typing import IO

import msgspec

from remanence.commands.bundle import FORMAT, FORMAT_VERSION, BundleReader, BundleWriter, Manifest
from remanence.commands.caller import Caller, check_new_session
from remanence.commands.chosen import chosen_id, is_made
from remanence.commands.lineage import Journal, erased_elsewhere, journal_of, pages, summary_now
from remanence.commands.spool import Rows
from remanence.commands.verification import Verification, verify_session
from remanence.core.session import evolve
from remanence.core.state import CLIENT_EPOCH, Session, status_of
from remanence.core.summary import summary_of
from remanence.errors import Conflict, InvalidInput, NotFound, StoreCorrupt, StoreFull, UnknownEvent, no_room
from remanence.events import (
    Event,
    Recorded,
    Redacted,
    SessionOpened,
    SessionUpgraded,
    chain_digest,
    decode_event,
    encode_event,
    payload_digest,
)
from remanence.ports import Budget, RawRecord
from remanence.spec import AgentSpec
from remanence.stores.rows import RESTED, blobs_named
from remanence.stores.verify import Flaw, Verifier

__all__ = [
    "Exported",
    "Imported",
    "Verification",
    "check_export",
    "export_session",
    "file_errors",
    "import_session",
    "verify_session",
]


class Exported(msgspec.Struct, frozen=True):
    """What was written. `in_turn`: the session is in the middle of a turn, so that it would go on in both places."""

    session: str
    records: int
    inherited: int
    blobs: int
    versions: int
    missing_blobs: tuple[str, ...]
    head_digest: str
    in_turn: bool


class Imported(msgspec.Struct, frozen=True):
    """What was laid down. `source` is the id the session had where it came from."""

    session: str
    source: str
    agent: str
    version: str
    records: int
    blobs: int
    status: str


# --- export -----------------------------------------------------------------------------------------------------------


async def export_session(caller: Caller, session: str, target: Path | IO[bytes]) -> Exported:
    """Write a session, as it stands now, into one file. A path appears only when the export is complete.

    Raises NotFound, StoreCorrupt when the journal does not verify, Conflict when the path is taken.
    """
    if not isinstance(target, Path):
        return await _export(caller, session, target)
    partial = target.with_name(f".{target.name}.partial")
    with file_errors(target):
        if await asyncio.to_thread(target.exists):
            raise Conflict(f"There is something at {target} already; it was left as it is. Give another path.")
        file = await asyncio.to_thread(_open_own, partial)
        try:
            with file:
                exported = await _export(caller, session, file)
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(partial.replace, target)
        finally:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
    return exported


def _open_own(path: Path) -> IO[bytes]:
    """A file that nobody else may read: a journal holds what people said."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "w+b")


async def _export(caller: Caller, session: str, file: IO[bytes]) -> Exported:
    journal = await journal_of(caller.database, session)
    writer = BundleWriter(file)
    try:
        return await _Export(caller, journal, writer).run()
    finally:
        await asyncio.to_thread(writer.close)


class _Export:
    """One pass over a journal, checked and written."""

    def __init__(self, caller: Caller, journal: Journal, writer: BundleWriter) -> None:
        self.caller = caller
        self.journal = journal
        self.writer = writer
        self.verifier = Verifier()
        self.blobs: dict[str, bool] = {}
        self.versions: set[str] = set()
        self.last: RawRecord | None = None

    async def run(self) -> Exported:
        async for rows in pages(self.caller.database, self.journal):
            self._refuse(self.verifier.feed(rows))
            await asyncio.to_thread(self.writer.add_records, rows)
            for row in rows:
                await self._add_needed(row)
            self.last = rows[-1]
        elsewhere = await erased_elsewhere(self.caller.database, self.journal, self.verifier.unannounced)
        self.verifier.announce(elsewhere)
        self._refuse(self.verifier.finish(self.journal.row.head))
        return await self._finish(elsewhere)

    async def _finish(self, elsewhere: dict[int, str]) -> Exported:
        row = self.journal.row
        head_digest = b"" if self.last is None else self.last.digest
        missing = tuple(sorted(digest for digest, there in self.blobs.items() if not there))
        manifest = Manifest(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            written_by=f"remanence {version_of('remanence')}",
            exported_at=self.caller.clock.now(),
            session=row.session,
            project=row.summary.project,
            agent=row.summary.agent,
            head=row.head,
            head_digest=head_digest.hex(),
            lineage=self.journal.origins,
            members={},
            erased_elsewhere=tuple(sorted(elsewhere)),
            seals={position: seal for position, seal in sorted(elsewhere.items()) if seal},
            missing_blobs=missing,
            budgets=tuple(await self.caller.database.controls.budgets(f"session:{row.session}")),
        )
        await asyncio.to_thread(self.writer.finish, manifest)
        summary = await summary_now(self.caller.database, row)
        return Exported(
            session=row.session,
            records=self.verifier.count,
            inherited=self.journal.inherited,
            blobs=len(self.blobs) - len(missing),
            versions=len(self.versions),
            missing_blobs=missing,
            head_digest=manifest.head_digest,
            in_turn=summary.status in RESTED,
        )

    async def _add_needed(self, row: RawRecord) -> None:
        """The versions and blobs a record refers to."""
        database = self.caller.database
        for digest in blobs_named(row.payload):
            if digest not in self.blobs:
                try:
                    await asyncio.to_thread(self.writer.add_blob, digest, await database.blobs.get(digest))
                    self.blobs[digest] = True
                except NotFound:
                    self.blobs[digest] = False
        version = _version_pinned(row)
        if version is not None and version not in self.versions:
            self.versions.add(version)
            spec = await database.specs.get(version)
            await asyncio.to_thread(self.writer.add_spec, version, spec)

    def _refuse(self, flaws: Iterable[Flaw]) -> None:
        for flaw in flaws:
            raise StoreCorrupt(
                f"Session {self.journal.row.session} was not exported: record {flaw.position} is not as it was written "
                f"({flaw.what}). The database was left as it is; `remanence sessions verify "
                f"{self.journal.row.session}` says more, and a backup may have the record whole."
            )


def _version_pinned(row: RawRecord) -> str | None:
    if row.kind not in (SessionOpened.__name__, SessionUpgraded.__name__):
        return None
    event = decode_event(row.payload)
    return event.version if isinstance(event, SessionOpened | SessionUpgraded) else None


# --- import -----------------------------------------------------------------------------------------------------------


class _Checked(msgspec.Struct, frozen=True):
    """A bundle that is what it says: its state, and what must lie beside the journal."""

    state: Session
    rows: Rows
    versions: dict[str, int]
    """Versions by when the journal pinned them (microseconds)."""
    blobs: tuple[str, ...]
    specs: dict[str, AgentSpec]


async def import_session(
    caller: Caller, source: Path | IO[bytes], *, as_session: str | None = None, apart: bool = False
) -> Imported:
    """Lay a session down from an exported file, which must be seekable. Everything is checked before. `apart`: under an
    id of the project's own (see `chosen`), for callers who have no say in what others' sessions are called.

    Raises InvalidInput for a file that is not a whole and unchanged export, UnknownEvent for one that a newer release
    wrote, Conflict when there is such a session already. Nothing was written then.
    """
    if isinstance(source, Path):
        with file_errors(source):
            file = await asyncio.to_thread(source.open, "rb")
            with file:
                bundle = await asyncio.to_thread(BundleReader, file, source.name)
                return await _import(caller, bundle, as_session, apart)
    bundle = await asyncio.to_thread(BundleReader, source, "The file")
    return await _import(caller, bundle, as_session, apart)


def check_export(source: Path) -> None:
    """Whether the file is a whole and unchanged export, asked before there is a database to lay it down in.

    Raises what `import_session` raises for it.
    """
    with file_errors(source), source.open("rb") as file:
        BundleReader(file, source.name).check_members()


async def _import(caller: Caller, bundle: BundleReader, as_session: str | None, apart: bool) -> Imported:
    session = as_session or bundle.manifest.session
    if apart and not (as_session is None and is_made(session)):
        session = chosen_id(caller.project, session)
    check_new_session(session)
    if await _exists(caller, session):
        raise _there_already(session)
    checked = await asyncio.to_thread(_check, caller, bundle, session)
    state = checked.state
    if state.project != caller.project:
        raise bundle.refusal(
            f"holds a session of project {state.project!r}, and you work in {caller.project!r}; import it as "
            f"{state.project!r} (setting `project`)"
        )
    database = caller.database
    for version, at in checked.versions.items():
        await database.specs.put(checked.specs[version], project=state.project, at=at)
    for digest in checked.blobs:
        await database.blobs.put(await asyncio.to_thread(bundle.blob, digest))
    # In one write: a session that was there without its budgets, were it for a moment, could spend what it may not.
    budgets = [Budget(f"session:{session}", one.unit, one.limit, one.spent) for one in bundle.manifest.budgets]
    try:
        await database.restore(session, checked.rows, summary_of(state, checked.specs[state.version]), None, budgets)
    except Conflict:
        raise _there_already(session) from None  # somebody else brought it in meanwhile
    return Imported(
        session=session,
        source=bundle.manifest.session,
        agent=state.agent,
        version=state.version,
        records=state.head,
        blobs=len(checked.blobs),
        status=status_of(state),
    )


def _there_already(session: str) -> Conflict:
    return Conflict(
        f"There is a session {session!r} already; it was left as it is, and nothing was imported. Import the file "
        "under another id (`--as-session`; over HTTP `as_session`), or go on with the one that is there."
    )


async def _exists(caller: Caller, session: str) -> bool:
    try:
        await caller.database.views.session(session)
    except NotFound:
        return False
    return True


def _check(caller: Caller, bundle: BundleReader, session: str) -> _Checked:
    """Read the whole file and refuse it unless everything in it fits together."""
    bundle.check_members()
    checking = _Checking(bundle, session)
    checking.read()
    more = checking.announcements(caller)
    state, blobs = checking.state, checking.blobs
    specs = {version: bundle.spec(version) for version in checking.versions}
    if state.version not in specs or specs[state.version].name != state.agent:
        raise bundle.refusal("has a journal that does not begin with an agent; it was changed")
    missing = set(bundle.manifest.missing_blobs)
    for digest in blobs:
        if not bundle.has_blob(digest) and digest not in missing:
            raise bundle.refusal(f"lacks 'blobs/{digest}', which its journal names; the file is not whole", again=True)
    if session != bundle.manifest.session:
        _refuse_open_effects(bundle, state)
    rows = Rows(lambda: chain(bundle.records(), more), state.head, *checking.ends)
    return _Checked(state, rows, checking.versions, tuple(filter(bundle.has_blob, blobs)), specs)


class _Checking:
    """One pass over the journal of a bundle: every record's digest, its kind, what it means for the state."""

    def __init__(self, bundle: BundleReader, session: str) -> None:
        self.bundle = bundle
        self.state = Session(session)
        self.versions: dict[str, int] = {}
        self.blobs: dict[str, None] = {}
        self.ends: list[RawRecord] = []

    def read(self) -> None:
        manifest = self.bundle.manifest
        verifier = Verifier()
        for row in self.bundle.records():
            _refuse(self.bundle, verifier.feed((row,)))
            self._take(row)
        if set(manifest.erased_elsewhere) - verifier.unannounced:
            raise self.bundle.refusal("has a manifest that tells of an erasure the journal does not show")
        verifier.announce({position: manifest.seals.get(position, "") for position in manifest.erased_elsewhere})
        _refuse(self.bundle, verifier.finish(manifest.head))
        if not self.ends or self.ends[1].digest.hex() != manifest.head_digest:
            raise self.bundle.refusal("has a journal that does not end with the digest its manifest gives")

    def _take(self, row: RawRecord) -> None:
        event = _decoded(self.bundle, row)
        self.state = evolve(
            self.state, Recorded(self.state.id, row.position, row.at, row.epoch, row.actor, event, row.digest)
        )
        if isinstance(event, SessionOpened | SessionUpgraded):
            self.versions.setdefault(event.version, row.at)
        self.blobs.update(dict.fromkeys(blobs_named(row.payload)))
        self.ends = [self.ends[0] if self.ends else row, row]

    def announcements(self, caller: Caller) -> list[RawRecord]:
        """Records for the erasures that were journaled out of the bundle's reach."""
        made: list[RawRecord] = []
        at, digest = caller.clock.now(), self.ends[1].digest
        for erased in self.bundle.manifest.erased_elsewhere:
            position, seal = self.state.head + 1, self.bundle.manifest.seals.get(erased, "")
            payload = encode_event(Redacted(erased, caller.actor, "erased before the session came here", seal))
            own = payload_digest(payload)
            digest = chain_digest(digest, own, position=position, at=at, epoch=0, actor=caller.actor)
            row = RawRecord(position, at, 0, caller.actor, Redacted.__name__, payload, digest)
            self._take(row)
            made.append(row)
        return made


def _decoded(bundle: BundleReader, row: RawRecord) -> Event:
    try:
        return decode_event(row.payload)
    except UnknownEvent:
        raise UnknownEvent(
            f"{bundle.name} holds an event of kind {row.kind!r} (record {row.position}), which this release does not "
            "know: a newer one wrote it. Nothing was written; import it with that release, or a newer one.",
            param="file",
        ) from None
    except StoreCorrupt:
        raise bundle.refusal(f"has a record {row.position} that is not an event of its kind") from None


def _refuse(bundle: BundleReader, flaws: Iterable[Flaw]) -> None:
    for flaw in flaws:
        raise bundle.refusal(f"has a journal whose record {flaw.position} is not as it was written: {flaw.what}")


def _refuse_open_effects(bundle: BundleReader, state: Session) -> None:
    """Effect keys carry the session's id: under another id, a tool could not tell a second attempt from a new call."""
    calls = state.turn.calls if state.turn else ()
    for call in calls:
        if call.attempt and call.epoch != CLIENT_EPOCH and call.state in ("running", "in_doubt", "rerun"):
            raise bundle.refusal(
                f"holds a session whose call {call.call} of {call.name} has started and has no outcome yet, so it "
                f"cannot go on under another id. Import it as {bundle.manifest.session}, or settle the call first"
            )


# --- files ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_errors(path: Path) -> Generator[None]:
    """Turn what the file system says about `path` into errors a person can act on."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"There is no file or folder {path}. Nothing was written.") from None
    except OSError as error:
        full = no_room(error)
        kind = StoreFull if full else InvalidInput
        hint = "make room" if full else "check the path and its permissions"
        raise kind(f"{path} cannot be used ({error.strerror}). The sessions are untouched; {hint}.") from None
