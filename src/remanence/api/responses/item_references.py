"""Items that a client names by their id instead of sending them: read from where they were said.

    {"type": "item_reference", "id": "msg_..."}

An id says in which session, or with which response or conversation, its item is. So a reference is put in its place as
the item that lists would show, reasoning with all that its provider wants back, before the input is read: that costs
the turn it lies in, however long its session is. What was erased, what belongs to another project and what never was is
not found, all in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from remanence.api.responses.input import refuse
from remanence.api.responses.item_pages import said_beside
from remanence.api.responses.items import Item, spoken_item
from remanence.api.responses.kept import find
from remanence.api.responses.talks import GONE, find_talk
from remanence.commands.caller import Caller, state_of
from remanence.core.state import Session
from remanence.errors import NotFound

__all__ = ["with_items"]

_SPOKEN = re.compile(r"msg_(.+)_(system|developer)_(\d{1,9})")
_REFERENCES_MAX = 1_000
_TAIL_MAX = 5
"""Into how many pieces at most the end of an id, after its session, falls apart."""


async def with_items(caller: Caller, given: Any, *, path: str = "input") -> Any:
    """An input whose references are replaced by their items. Raises NotFound with the path of one there is not."""
    items = cast("list[Any]", given) if isinstance(given, list) else []
    named = sum(1 for one in items if _name(one))
    if not named:
        return cast("Any", given)
    if named > _REFERENCES_MAX:
        refuse(path, f"at most {_REFERENCES_MAX:,} items are referred to at once")
    seen = _Seen(caller)
    found: list[Any] = []
    for one in reversed(items):  # the last first: a look shows what was said before it too
        name = _name(one)
        found.append(await seen.item(name) if name else one)
    found.reverse()
    for index, (one, item) in enumerate(zip(items, found, strict=True)):
        if item is None and (name := _name(one)):
            raise NotFound(
                f"Item with id '{name[:200]}' not found. Nothing was written. Items of responses that are not stored, "
                "and those that were deleted, cannot be referred to: send the item itself.",
                param=f"{path}[{index}].id",
            )
    return found


def _name(item: Any) -> str:
    """The id of a reference; empty when it is an item of its own."""
    if not isinstance(item, dict):
        return ""
    known = cast("dict[str, Any]", item)
    bare = known.keys() == {"id"} or (known.keys() == {"id", "type"} and known["type"] is None)
    name = known.get("id")
    return name if (bare or known.get("type") == "item_reference") and isinstance(name, str) else ""


class _Seen:
    """What was looked into for one request: each session once, and of it the turns that are referred to, once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._sessions: dict[str, Session | None] = {}
        self._items: dict[str, Item] = {}

    async def item(self, name: str) -> Item | None:
        """The item of this id, if the caller's project has it."""
        spoken = _SPOKEN.fullmatch(name)
        if spoken is not None:
            return await self._spoken(name, spoken[1], int(spoken[3]))
        if name in self._items:
            return self._items[name]
        for session in _sessions(name):
            s = await self._session(session)
            if s is not None:
                said = await said_beside(self._caller, s, name, encrypted=True)
                self._items.update((item["id"], item) for item, _ in said)
            if name in self._items:
                return self._items[name]
        return None

    async def _spoken(self, name: str, owner: str, index: int) -> Item | None:
        try:
            said = (await find_talk(self._caller, owner)).spoken
        except NotFound:
            try:
                said = (await find(self._caller, owner)).spoken
            except NotFound:
                return None
        if index >= len(said) or said[index] == GONE:
            return None
        item = spoken_item(owner, index, said[index].role, said[index].text)
        return item if item["id"] == name else None

    async def _session(self, name: str) -> Session | None:
        """The session of this id, if the caller's project has it and it was not deleted."""
        if name not in self._sessions:
            try:
                s = await state_of(self._caller, name)
            except NotFound:
                s = None
            ours = s is not None and s.project == self._caller.project and not s.deleted
            self._sessions[name] = s if ours else None
        return self._sessions[name]


def _sessions(name: str) -> Iterator[str]:
    """The sessions an id may be of: what is left of it without its kind and one to some pieces of its end."""
    rest = name.partition("_")[2]
    for _ in range(_TAIL_MAX):
        rest = rest.rpartition("_")[0]
        if not rest:
            return
        yield rest
