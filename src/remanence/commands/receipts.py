"""Receipts of erasures: what was ordered, what was reached, signed; and the proof that nothing is left.

A receipt holds no word of what it erased: positions and digests of records, ids of memories, and prints (see
`traces.py`). It is signed with Ed25519 under the key of its database, so that whoever was given one can show it to
anybody who trusts that key. The key is an entry of the registry and goes where the database goes.

`check_receipt` believes nothing but what it looks up: the signature, each record's skeleton under the digest it had,
each memory's absence, and the bytes of the database's own files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.traces import Tracer, file_chunks
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import decode_event, encode_event, skeleton
from remanence.ports import Entry, Registry, SessionQuery

if TYPE_CHECKING:
    from nacl.signing import SigningKey

__all__ = ["Check", "Order", "Reached", "Receipt", "What", "check_receipt", "read_receipt", "sign", "tracer_of"]

KEY_KIND = "signing_key"
KEY_ID = "receipts"
_PAGE = 500

What = Literal["memory", "session", "subject", "user"]


class Order(msgspec.Struct, frozen=True):
    """Whose or which memory, session, subject or user is to be erased, by whose order and why. `at` in microseconds."""

    id: str
    project: str
    what: What
    name: str
    by: str
    reason: str
    at: int


class Reached(msgspec.Struct, frozen=True, order=True):
    """One record that was erased: what is left of it still has this digest (64 hexadecimal digits)."""

    session: str
    position: int
    digest: str


class Receipt(msgspec.Struct, frozen=True):
    """What an erasure did. `removed` counts what it took away, by where; `beyond` says what it could not reach.

    `prints` are keyed digests of pieces of what was erased, `key` is the public key (64 hexadecimal digits) that
    `signature` (128) is checked with.
    """

    order: Order
    finished_at: int
    records: tuple[Reached, ...]
    memories: tuple[str, ...]
    removed: dict[str, int]
    prints: tuple[str, ...]
    beyond: tuple[str, ...]
    key: str = ""
    signature: str = ""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: whether it holds, and what was found, in words."""

    what: str
    holds: bool
    found: str


class _Key(msgspec.Struct, frozen=True):
    seed: bytes


# --- signing ----------------------------------------------------------------------------------------------------------


async def sign(caller: Caller, receipt: Receipt) -> Receipt:
    """The receipt with the database's signature."""
    key = await _signing_key(caller)
    named = replace(receipt, key=key.verify_key.encode().hex(), signature="")
    return replace(named, signature=key.sign(_signed(named)).signature.hex())


async def tracer_of(caller: Caller) -> Tracer:
    """Makes and finds prints under the database's key."""
    return Tracer((await _signing_key(caller)).encode())


async def _signing_key(caller: Caller) -> SigningKey:
    from nacl.signing import SigningKey

    registry: Registry = caller.database.registry
    try:
        entry = await registry.get(KEY_KIND, KEY_ID)
    except NotFound:
        now, fresh = caller.clock.now(), _Key(SigningKey.generate().encode())
        try:
            entry = await registry.put(Entry(KEY_KIND, "", KEY_ID, now, now, msgspec.json.encode(fresh)), expect=0)
        except Conflict:
            entry = await registry.get(KEY_KIND, KEY_ID)
    return SigningKey(msgspec.json.decode(entry.body, type=_Key).seed)


def _signed(receipt: Receipt) -> bytes:
    return msgspec.json.encode(replace(receipt, signature=""), order="sorted")


def read_receipt(text: bytes) -> Receipt:
    """A receipt as it was given out. Raises InvalidInput."""
    try:
        return msgspec.json.decode(text, type=Receipt)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(
            f"This is not a receipt of an erasure ({error}). Nothing was checked; give the file as it was written.",
            param="receipt",
        ) from None


# --- proof ------------------------------------------------------------------------------------------------------------


async def check_receipt(caller: Caller, receipt: Receipt) -> Sequence[Check]:
    """Look at everything a receipt says, and search the database's files for what it erased.

    Raises NotFound for a receipt of another project.
    """
    if receipt.order.project != caller.project:
        raise NotFound(f"Erasure {receipt.order.id} is not one of this project. Nothing was checked.")
    left = await _records_left(caller, receipt.records)
    memories = await _memories_left(caller, receipt)
    return (
        await _signature(caller, receipt),
        Check("records", not left, _said(left, f"{len(receipt.records)} records: skeletons under their digests")),
        Check("memories", not memories, _said(memories, f"{len(receipt.memories)} memories: none is left")),
        await _files(caller, receipt),
    )


async def _signature(caller: Caller, receipt: Receipt) -> Check:
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(bytes.fromhex(receipt.key)).verify(_signed(receipt), bytes.fromhex(receipt.signature))
    except (BadSignatureError, ValueError):
        return Check("signature", False, "the receipt is not as it was signed")
    ours = (await _signing_key(caller)).verify_key.encode().hex()
    if ours != receipt.key:
        return Check("signature", False, "it was signed by another database, or by somebody else")
    return Check("signature", True, f"signed by this database (key {ours[:16]})")


async def _records_left(caller: Caller, records: Iterable[Reached]) -> list[str]:
    """Those records that still say something, or are not the ones the receipt means."""
    wanted: dict[str, dict[int, str]] = {}
    for one in records:
        wanted.setdefault(one.session, {})[one.position] = one.digest
    left: list[str] = []
    for session, digests in wanted.items():
        seen: set[int] = set()
        after = min(digests) - 1
        try:
            while rows := await caller.database.raw(session, after=after, limit=_PAGE):
                after = rows[-1].position
                for row in rows:
                    if row.position in digests:
                        seen.add(row.position)
                        digest = row.payload_digest.hex() if row.payload_digest else ""
                        bare = digest and encode_event(skeleton(decode_event(row.payload))) == row.payload
                        if not bare or digest != digests[row.position]:
                            left.append(f"{session}#{row.position}")
        except NotFound:
            continue  # the whole session is gone
        left += [f"{session}#{position} (missing)" for position in digests.keys() - seen]
    return left


async def _memories_left(caller: Caller, receipt: Receipt) -> list[str]:
    left: list[str] = []
    for memory in receipt.memories:
        try:
            await caller.database.memories.get(receipt.order.project, memory)
        except NotFound:
            continue
        left.append(memory)
    return left


async def _files(caller: Caller, receipt: Receipt) -> Check:
    """Search the files themselves: free pages and logs hold what no query shows."""
    await caller.database.scrub()
    paths = await caller.database.files()
    if not paths:
        return Check("files", True, "the database's files are not on this machine; they were not searched")
    tracer, prints = await tracer_of(caller), frozenset(receipt.prints)
    ours = caller.database.url.startswith("sqlite")
    found = {path.name: await asyncio.to_thread(_search, tracer, prints, path, ours=ours) for path in paths}
    elsewhere = await _said_elsewhere(caller, tracer, frozenset[str]().union(*found.values()))
    where = [f"{len(left)} in {name}" for name, here in found.items() if (left := here - elsewhere.keys())]
    words = f"{len(paths)} files searched for {len(prints)} prints"
    if elsewhere:
        words += f" ({len(elsewhere)} are what others say, too, such as {min(elsewhere.values())})"
    return Check("files", not where, f"{words}: found {', '.join(where)}" if where else f"{words}: none is left")


async def _said_elsewhere(caller: Caller, tracer: Tracer, prints: frozenset[str]) -> dict[str, str]:
    """Where these prints stand in records that nobody ordered to be erased, or in what was declared."""
    database, places = caller.database, dict[str, str]()
    if not prints:
        return places
    query = SessionQuery(opened="oldest_first", limit=_PAGE)
    while rows := await database.views.sessions(query):
        for row in rows:
            after = 0
            while records := await database.raw(row.session, after=after, limit=_PAGE):
                after = records[-1].position
                for record in records:
                    for one in tracer.find(prints, (record.payload,)):
                        places.setdefault(one, f"{row.session}#{record.position}")
        query = replace(query, after=rows[-1].session)
    for version in await database.specs.versions(None):
        declared = msgspec.json.encode(await database.specs.get(version.version))
        places |= dict.fromkeys(tracer.find(prints, (declared,)), f"agent {version.agent}")
    return places


def _search(tracer: Tracer, prints: frozenset[str], path: Path, *, ours: bool) -> set[str]:
    try:
        return tracer.find(prints, file_chunks(path, ours=ours))
    except FileNotFoundError:
        return set()  # a log that was emptied and removed meanwhile


def _said(left: Sequence[str], otherwise: str) -> str:
    if not left:
        return otherwise
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return f"still there: {', '.join(left[:5])}{more}"
