"""Orders of erasure as they are kept: what each has reached so far, and its receipt in the end.

Several processes may carry out one order: two of them take it for one that was left, or whoever had it was only slow.
Each erases what it finds, and knows of that alone. So nobody writes over what another one has written down since: they
go on with both, until the last one's receipt says all that was erased under the order. What another one has written
down, and not come to perhaps, is erased by whoever signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.entries import entries_of, own_entry
from remanence.commands.pseudonyms import BLOCK
from remanence.commands.quotes import Trail
from remanence.commands.receipts import Order, Reached, Receipt
from remanence.errors import Conflict, NotFound
from remanence.ports import Entry

__all__ = ["KIND", "KeptOrder", "State", "joined", "read_state", "receipt_of", "receipts", "together"]

KIND: Final = "erasure"
T = TypeVar("T")


class State(msgspec.Struct, frozen=True):
    """An order and what it has reached so far."""

    order: Order
    records: tuple[Reached, ...] = ()
    memories: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    removed: dict[str, int] = {}
    receipt: Receipt | None = None
    trail: Trail = Trail()
    unsigned: Receipt | None = None
    """The receipt, when all is erased but what the files still hold. No name is left in the order then."""
    bare: tuple[str, ...] = ()
    """Memories under pseudonyms, which somebody else erased who carried out the same order."""


def read_state(entry: Entry) -> State:
    """The order that an entry keeps."""
    return msgspec.json.decode(entry.body, type=State)


async def receipts(caller: Caller) -> Sequence[Receipt]:
    """The receipts of the caller's project, newest first."""
    states = [read_state(entry) for entry in await entries_of(caller, KIND, project=caller.project)]
    found = [state.receipt for state in states if state.receipt is not None]
    return sorted(found, key=lambda receipt: receipt.order.at, reverse=True)


async def receipt_of(caller: Caller, order: str) -> Receipt:
    """The receipt of an order of the caller's project. Raises NotFound, Conflict while it is being carried out."""
    entry = await own_entry(caller, KIND, order)
    if entry is None:
        raise NotFound(f"There is no erasure {order!r}, and no file of that name. See: remanence memory receipts")
    receipt = read_state(entry).receipt
    if receipt is None:
        raise Conflict(f"Erasure {order} is still being carried out. Ask again in a minute.")
    return receipt


class KeptOrder:
    """The entry of one order, as this process last saw it. `revision` 0: there is none yet."""

    def __init__(self, caller: Caller, revision: int) -> None:
        self._caller = caller
        self._revision = revision

    async def put(self, state: State) -> State | None:
        """Keep this. What is there instead when somebody else has written it since: nothing was kept then."""
        order, registry = state.order, self._caller.database.registry
        entry = Entry(KIND, order.project, order.id, order.at, self._caller.clock.now(), msgspec.json.encode(state))
        try:
            self._revision = (await registry.put(entry, expect=self._revision)).revision
        except Conflict:
            there = await registry.get(KIND, order.id)
            self._revision = there.revision
            return read_state(there)
        return None

    async def save(self, state: State) -> State:
        """Keep this, with what somebody else has written since. Returns what is kept."""
        while (there := await self.put(state)) is not None:
            state = together(state, there)
        return state


def together(ours: State, theirs: State) -> State:
    """An order that is being carried out, with what another process has reached under it."""
    done, trail = theirs.receipt or theirs.unsigned or theirs, theirs.trail
    bare = [] if done is theirs else [one for one in done.memories if one.startswith(BLOCK)]
    return replace(
        ours,
        records=tuple(sorted({*ours.records, *done.records})),
        memories=tuple(sorted({*ours.memories, *done.memories} - set(bare))),
        prints=_all(ours.prints, done.prints),
        removed=_most(ours.removed, done.removed),
        bare=_all(ours.bare, (*theirs.bare, *bare)),
        trail=Trail(
            _all(ours.trail.quoted, trail.quoted),
            _all(ours.trail.shared, trail.shared),
            _all(ours.trail.users, trail.users),
            _all(ours.trail.named, trail.named),
        ),
    )


def joined(receipt: Receipt, done: Receipt) -> Receipt:
    """A receipt that says as well what another process has erased. It must be signed anew."""
    return replace(
        receipt,
        records=tuple(sorted({*receipt.records, *done.records})),
        memories=tuple(sorted({*receipt.memories, *done.memories})),
        prints=_all(receipt.prints, done.prints),
        removed=_most(receipt.removed, done.removed),
    )


def _all(ours: Sequence[T], theirs: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*ours, *theirs)))


def _most(ours: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
    """How much of each was removed: both may have counted the same."""
    return {where: max(ours.get(where, 0), theirs.get(where, 0)) for where in (*ours, *theirs)}
