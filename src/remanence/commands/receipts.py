"""Receipts of erasures: what was ordered, what was reached, signed; and the proof that nothing is left.

A receipt holds no word of what it erased: positions and digests of records, ids of memories, and prints (see
`traces.py`). It is signed with Ed25519 under the key of its database, so that whoever was given one can show it to
anybody who trusts that key. The key is an entry of the registry and goes where the database goes.

What proves it is in `proof.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.traces import Tracer
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.ports import Entry, Registry

if TYPE_CHECKING:
    from nacl.signing import SigningKey

__all__ = ["Order", "Reached", "Receipt", "What", "flaw_of_signature", "read_receipt", "sign", "tracer_of"]

KEY_KIND = "signing_key"
KEY_ID = "receipts"

What = Literal["memory", "session", "subject", "user"]


class Order(msgspec.Struct, frozen=True):
    """Whose or which memory, session, subject or user is to be erased, by whose order and why. `at` in microseconds.

    In a receipt the name of a user, a subject or a block is a pseudonym; whoever knows the name can check it.
    """

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


async def flaw_of_signature(caller: Caller, receipt: Receipt) -> tuple[str, str]:
    """What is wrong with the signature (empty: nothing), and the beginning of the key it was made with."""
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(bytes.fromhex(receipt.key)).verify(_signed(receipt), bytes.fromhex(receipt.signature))
    except (BadSignatureError, ValueError):
        return "the receipt is not as it was signed", ""
    ours = (await _signing_key(caller)).verify_key.encode().hex()
    return "" if ours == receipt.key else "it was signed by another database, or by somebody else", ours[:16]
