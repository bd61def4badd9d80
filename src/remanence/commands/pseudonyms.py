"""Who it was: the names that an order erases, and what takes their place.

A pseudonym is a keyed digest of the order and the name: it says nothing to whoever lacks the key of the database, and
whoever has both can check that a receipt is about that name. Every order makes its own, so two erasures of one person
cannot be told to be of the same one.

* A user: their name, wherever it says who acted or whose something is. Names inside of what others said are not theirs.
* A block: an agent calls it what it likes (`daughter_mia`), and its id holds that name; both go with its text.
* A subject: only the order itself holds its name after the memories are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.entries import entries_of
from remanence.commands.receipts import Order, Receipt
from remanence.commands.traces import Tracer
from remanence.errors import Conflict
from remanence.events import Event, Recorded, Renames, renamed
from remanence.ports import Entry

__all__ = ["BLOCK", "Pseudonyms", "rename_entries"]

BLOCK = "block/"
"""What the id of a block begins with."""
_NAME_CHARS_MIN = 5
"""A block's name of fewer letters is a word that anybody may have used."""
_ID_CHARS_MIN = 3
"""What is shorter is no id in a sentence."""
_KEPT_KINDS = ("agent", "api_key", "console_session", "erasure", "signing_key")
"""What was declared, credentials, and the orders themselves, which change under their own rules."""


class Pseudonyms:
    """The names that one order erases. `memories` are the ids of memories it is known to erase."""

    def __init__(self, order: Order, tracer: Tracer, memories: Iterable[str] = ()) -> None:
        self._order = order
        self._tracer = tracer
        self.user = order.name if order.what == "user" else ""
        """The user who is erased, or the empty string."""
        self._blocks: dict[str, str] = {}
        self.know(memories)

    def of(self, name: str) -> str:
        """The pseudonym of a name."""
        return self._tracer.pseudonym(self._order.id, name)

    def know(self, memories: Iterable[str]) -> None:
        """These are erased: of those that are blocks, the names go."""
        for memory in memories:
            if memory.startswith(BLOCK) and memory not in self._blocks:
                self._blocks[memory] = f"{BLOCK}{self.of(memory)}"

    def see(self, event: Event) -> None:
        """Blocks of the erased user that an event names: they may have been erased before, and kept their names."""
        items = getattr(event, "items", ())
        ids = [getattr(event, "memory", ""), *(item.memory for item in items)]
        self.know(one for one in ids if self.is_theirs(one))

    def is_theirs(self, memory: str) -> bool:
        """Whether a memory is a block of the erased user."""
        return bool(self.user) and memory.startswith(BLOCK) and f"/user:{self.user}/" in memory

    @property
    def blocks(self) -> Sequence[str]:
        """The ids of the blocks that are erased."""
        return list(self._blocks)

    @property
    def names(self) -> Sequence[str]:
        """What to look for in the journals."""
        return [self.user, *self._blocks] if self.user else list(self._blocks)

    @property
    def written(self) -> Sequence[bytes]:
        """The same as they stand in JSON."""
        return [msgspec.json.encode(name)[1:-1] for name in self.names]

    @property
    def renames(self) -> Renames:
        """What takes the place of what."""
        users = {prefix + self.user: prefix + self.of(self.user) for prefix in ("", "user:") if self.user}
        return Renames(users, dict(self._blocks))

    def named_in(self, record: Recorded) -> bool:
        """Whether a record holds a name where it says who or whose, or which memory."""
        renames = self.renames
        return renames.user(record.actor) != record.actor or renamed(record.event, renames) != record.event

    def words_of(self, memory: str) -> tuple[str, ...]:
        """What a session says of a block when it is set: its id, its name when that is telling."""
        if not memory.startswith(BLOCK):
            return ()
        name = memory.rpartition("/")[2]
        return (memory, f"Block {name} is", *((name,) if len(name) >= _NAME_CHARS_MIN else ()))

    # --- what stays of the order --------------------------------------------------------------------------------------

    def order(self) -> Order:
        """The order without names."""
        order = self._order
        if order.what in ("user", "subject") or order.name in self._blocks:
            by = self.renames.user(order.by)
            return replace(order, name=self._renamed(order.name), by=by, reason=self.without(order.reason))
        return order

    def without(self, text: str) -> str:
        """A text with the pseudonym in the place of the name that the order is about."""
        name = self._order.name
        if len(name) < _ID_CHARS_MIN:
            return text
        return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: self._renamed(name), text)

    def receipt(self, receipt: Receipt) -> Receipt:
        """A receipt without names; its signature does not fit any more when that changed it."""
        memories = tuple(sorted({self._blocks.get(one, one) for one in receipt.memories}))
        order = receipt.order
        about = order.what == "user" and order.name == self.user
        name = self.of(order.name) if about else self._blocks.get(order.name, order.name)
        reason = self.without(order.reason) if self.user else order.reason
        order = replace(order, name=name, by=self.renames.user(order.by), reason=reason)
        return replace(receipt, order=order, memories=memories)

    def _renamed(self, name: str) -> str:
        return self._blocks.get(name) or self.of(name)


async def rename_entries(caller: Caller, names: Pseudonyms) -> int:
    """Pseudonyms in what was declared in the project: who made a view or a grant, whose sessions a view shows.

    Returns how many entries were changed. One that somebody changes at this moment is left for the next look.
    """
    registry, changed = caller.database.registry, 0
    for kind in await registry.kinds():
        if kind in _KEPT_KINDS:
            continue
        for entry in await entries_of(caller, kind, project=caller.project):
            body = _without_names(entry, names.renames)
            if body != entry.body:
                try:
                    await registry.put(replace(entry, body=body, updated_at=caller.clock.now()), expect=entry.revision)
                except Conflict:
                    continue
                changed += 1
    return changed


def _without_names(entry: Entry, renames: Renames) -> bytes:
    before = msgspec.json.decode(entry.body)
    after = _walk(before, renames)
    return entry.body if after == before else msgspec.json.encode(after)


def _walk(value: Any, renames: Renames) -> Any:
    if isinstance(value, list):
        return [_walk(one, renames) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    made = dict[str, Any]()
    for key, one in cast("dict[str, Any]", value).items():
        if not isinstance(one, str):
            made[key] = _walk(one, renames)
        elif key in ("by", "user"):
            made[key] = renames.user(one)
        elif key == "scope":
            made[key] = renames.scope(one)
        elif key == "query":
            made[key] = _query(one, renames)
        else:
            made[key] = one
    return made


def _query(query: str, renames: Renames) -> str:
    """The filters of a kept view."""
    pairs = [(key, renames.user(value) if key == "user" else value) for key, value in parse_qsl(query)]
    return urlencode(pairs) if pairs != parse_qsl(query) else query
