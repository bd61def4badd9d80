"""The file one session travels in: a ZIP archive that says itself what it holds and how to check it.

    manifest.json          what this is; the session, its head, its lineage; size and SHA-256 of every other member
    journal.jsonl          every record from the first on, one JSON object a line, those inherited by a fork included
    specs/<version>.json   every version of the agent that the journal pins
    blobs/<sha256>         payloads over 64 KiB, and the blobs that events refer to

A line of the journal holds the record's header, its digest, and the event exactly as it was stored, byte for byte:

    {"position": 7, "at": 1800000000000000, "epoch": 1, "actor": "w1", "digest": "ab...", "event": {"type": ...}}

in place of `event`: `blob` for a payload that lies in `blobs/`, `event_base64` for one that is not a line of JSON.
`erased` is there when the payload was redacted: the digest of what it was, which the chain of digests still needs.

Nothing else travels: no keys, no leases, no idempotency keys, no snapshots. Records are read and written one by one, so
that memory does not grow with the session.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, cast

import msgspec

from remanence.errors import InvalidInput
from remanence.ports import Budget, RawRecord
from remanence.spec import AgentSpec, spec_digest
from remanence.stores.rows import SPILL_BYTES, kind_in

__all__ = ["FORMAT", "FORMAT_VERSION", "BundleReader", "BundleWriter", "Manifest", "Member", "Origin"]

FORMAT = "remanence-session"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
KEPT = "Nothing was written."

_CHUNK_BYTES = 1 << 20
_MANIFEST_BYTES_MAX = 256 << 20
_LINE_BYTES_MAX = 64 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
"""What Python's reader of ZIP files raises for one that is cut, overwritten, encrypted or not a ZIP file."""


class Member(msgspec.Struct, frozen=True):
    """One member of the archive: size in bytes, SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Origin(msgspec.Struct, frozen=True):
    """One stretch of the journal: positions `first` to `last` were written by `session`."""

    session: str
    first: int
    last: int


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle says about itself. `head_digest` is the digest of the last record, in hexadecimal digits.

    `erased_elsewhere` are positions whose erasure was journaled where this bundle does not reach (in the source of a
    fork, after it), `seals` the seals of those that have one; `missing_blobs` are blobs that events name and that were
    not there any more. `budgets` are those of the session itself.
    """

    format: str
    format_version: int
    written_by: str
    exported_at: int
    session: str
    project: str
    agent: str
    head: int
    head_digest: str
    lineage: tuple[Origin, ...]
    members: dict[str, Member]
    erased_elsewhere: tuple[int, ...] = ()
    seals: dict[int, str] = {}
    missing_blobs: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    position: int
    at: int
    epoch: int
    actor: str
    digest: str
    event: msgspec.Raw = msgspec.Raw(b"")
    event_base64: bytes | None = None
    blob: str | None = None
    erased: str | None = None


_line_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)


# --- writing ----------------------------------------------------------------------------------------------------------


class BundleWriter:
    """Writes one bundle into `file`, which need not be seekable. Close it in the end, whatever happened."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        self._journal = cast("IO[bytes]", tempfile.TemporaryFile(prefix="remanence-journal-"))  # noqa: SIM115 - `close` does
        self._members: dict[str, Member] = {}

    def add_records(self, rows: Sequence[RawRecord]) -> None:
        """The next records, in order."""
        for row in rows:
            self._journal.write(_line_encoder.encode(self._line(row)) + b"\n")

    def add_blob(self, digest: str, content: bytes) -> None:
        """Content under its digest; a second time is nothing."""
        self._add(f"blobs/{digest}", content)

    def add_spec(self, version: str, spec: AgentSpec) -> None:
        """A version of the agent."""
        self._add(f"specs/{version}.json", msgspec.json.encode(spec, order="sorted"))

    def finish(self, manifest: Manifest) -> Manifest:
        """Lay down the journal and the manifest, whose `members` are filled in."""
        self._journal.seek(0)
        state, size = hashlib.sha256(), 0
        with self._zip.open(JOURNAL, "w", force_zip64=True) as member:
            while chunk := self._journal.read(_CHUNK_BYTES):
                state.update(chunk)
                size += len(chunk)
                member.write(chunk)
        self._members[JOURNAL] = Member(size, state.hexdigest())
        manifest = msgspec.structs.replace(manifest, members=self._members)
        self._zip.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        return manifest

    def close(self) -> None:
        """Let go of the temporary file and end the archive."""
        self._journal.close()
        self._zip.close()

    def _line(self, row: RawRecord) -> _Line:
        header = (row.position, row.at, row.epoch, row.actor, row.digest.hex())
        erased = None if row.payload_digest is None else row.payload_digest.hex()
        payload = row.payload
        if len(payload) > SPILL_BYTES:
            digest = hashlib.sha256(payload).hexdigest()
            self.add_blob(digest, payload)
            return _Line(*header, blob=digest, erased=erased)
        if payload.startswith(b"{") and payload.endswith(b"}") and b"\n" not in payload and b"\r" not in payload:
            return _Line(*header, event=msgspec.Raw(payload), erased=erased)
        return _Line(*header, event_base64=payload, erased=erased)

    def _add(self, name: str, content: bytes) -> None:
        if name in self._members:
            return
        self._members[name] = Member(len(content), hashlib.sha256(content).hexdigest())
        self._zip.writestr(name, content)


# --- reading ----------------------------------------------------------------------------------------------------------


class BundleReader:
    """Reads one bundle from a seekable file. Everything that is not as it should be raises InvalidInput.

    `name` is how messages call the file. Only what `check_members` has passed is to be believed.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        try:
            size = file.seek(0, os.SEEK_END)
            self._zip = zipfile.ZipFile(file)
        except _DAMAGE as error:
            why = "it is empty" if not size_of(file) else f"it is cut short, damaged or something else ({error})"
            raise self.refusal(f"is not a session that Remanence exported: {why}", again=True) from None
        self.size = size
        self._infos = {info.filename: info for info in self._zip.infolist()}
        if len(self._infos) != len(self._zip.infolist()):
            raise self.refusal("holds two members of the same name; that is not how an export looks")
        self.manifest = self._read_manifest()

    def refusal(self, what: str, *, again: bool = False) -> InvalidInput:
        """What is wrong with this file, as an error that can be raised."""
        hint = " Export the session again and copy the file as binary." if again else ""
        return InvalidInput(f"{self.name} {what}. {KEPT}{hint}", param="file")

    def _read_manifest(self) -> Manifest:
        if MANIFEST not in self._infos:
            raise self.refusal(f"is not a session that Remanence exported: it has no {MANIFEST}")
        if self._infos[MANIFEST].file_size > _MANIFEST_BYTES_MAX:
            raise self.refusal(f"is refused: its {MANIFEST} is larger than any export writes")
        content = self.read(MANIFEST)
        try:
            about = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            kind = msgspec.json.decode(about.get("format", msgspec.Raw(b"null")))
            version = msgspec.json.decode(about.get("format_version", msgspec.Raw(b"null")))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self.refusal(f"has a {MANIFEST} that is not readable ({error})", again=True) from None
        if kind != FORMAT or not isinstance(version, int):
            raise self.refusal(f"is not an exported session: its {MANIFEST} says {kind!r}, not {FORMAT!r}")
        if version > FORMAT_VERSION:
            raise self.refusal(
                f"was written by a newer release, in format {version}; this release reads formats up to "
                f"{FORMAT_VERSION}. Import it with that release, or a newer one"
            )
        try:
            return msgspec.json.decode(content, type=Manifest)
        except msgspec.DecodeError as error:
            raise self.refusal(f"has a {MANIFEST} that does not have the shape of one ({error})") from None

    def check_members(self) -> None:
        """Every member is there, whole and unchanged, and there is no other."""
        members = self.manifest.members
        for name in self._infos.keys() - members.keys() - {MANIFEST}:
            raise self.refusal(f"holds {name!r}, which its {MANIFEST} does not know; the file was changed")
        if JOURNAL not in members:
            raise self.refusal(f"has a {MANIFEST} without {JOURNAL}; the file was changed")
        for name, member in members.items():
            self._check_member(name, member)

    def _check_member(self, name: str, member: Member) -> None:
        info = self._infos.get(name)
        if info is None:
            raise self.refusal(f"lacks its member {name!r}; the file is not whole", again=True)
        if info.file_size != member.size:
            raise self.refusal(
                f"has a member {name!r} of {info.file_size:,} bytes where its {MANIFEST} says {member.size:,}; the "
                "file was changed",
                again=True,
            )
        state = hashlib.sha256()
        try:
            with self._zip.open(info) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    state.update(chunk)
        except _DAMAGE as error:
            raise self.refusal(f"has a damaged member {name!r} ({error})", again=True) from None
        if state.hexdigest() != member.sha256:
            raise self.refusal(f"has a member {name!r} that was changed: its digest is another", again=True)

    def read(self, name: str) -> bytes:
        """One member, whole."""
        try:
            return self._zip.read(name)
        except KeyError:
            raise self.refusal(f"lacks its member {name!r}; the file is not whole", again=True) from None
        except _DAMAGE as error:
            raise self.refusal(f"has a damaged member {name!r} ({error})", again=True) from None

    def has_blob(self, digest: str) -> bool:
        return f"blobs/{digest}" in self.manifest.members

    def blob(self, digest: str) -> bytes:
        """A blob by its digest, which is checked."""
        content = self.read(f"blobs/{digest}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise self.refusal(f"has a member 'blobs/{digest}' whose content has another digest", again=True)
        return content

    def spec(self, version: str) -> AgentSpec:
        """A version of the agent, whose digest is checked."""
        name = f"specs/{version}.json"
        if name not in self.manifest.members:
            raise self.refusal(f"lacks {name!r}, a version that its journal pins; the file is not whole", again=True)
        try:
            spec = msgspec.json.decode(self.read(name), type=AgentSpec)
        except msgspec.DecodeError as error:
            raise self.refusal(f"has a member {name!r} that this release cannot read ({error})") from None
        if spec_digest(spec) != version:
            raise self.refusal(
                f"has a member {name!r} that is not the version it claims to be: it was changed, or written by a newer "
                "release with fields this one does not know"
            )
        return spec

    def records(self) -> Iterator[RawRecord]:
        """The journal, record by record, as it lies in the file."""
        number = 0
        try:
            with self._zip.open(JOURNAL) as file:
                while line := file.readline(_LINE_BYTES_MAX):
                    number += 1
                    yield self._record(line, number)
        except _DAMAGE as error:
            raise self.refusal(f"has a damaged {JOURNAL} after line {number} ({error})", again=True) from None

    def _record(self, line: bytes, number: int) -> RawRecord:
        try:
            row = _line_decoder.decode(line)
            digest = bytes.fromhex(row.digest)
            erased = None if row.erased is None else bytes.fromhex(row.erased)
        except (ValueError, RecursionError) as error:
            raise self.refusal(f"has a line {number} of {JOURNAL} that is not a record ({error})", again=True) from None
        if row.blob is not None:
            payload = self.blob(row.blob)
        else:
            payload = bytes(row.event) if row.event_base64 is None else row.event_base64
        return RawRecord(
            row.position, row.at, row.epoch, row.actor, kind_in(payload), payload, digest, payload_digest=erased
        )


def size_of(file: IO[bytes]) -> int:
    """How many bytes a seekable file has."""
    return file.seek(0, os.SEEK_END)
