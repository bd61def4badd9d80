"""Items that a client names by their id instead of sending them: read from where they were said.

    {"type": "item_reference", "id": "msg_..."}

An id says in which session, or with which response or conversation, its item is. So a reference is put in its place as
the item that lists would show, reasoning with all that its provider wants back, before the input is read. What was
erased, what belongs to another project and what never was is not found, all in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from remanence.api.item_pages import items_said
from remanence.api.response_input import refuse
from remanence.api.response_items import Item, spoken_item
from remanence.api.response_kept import find
from remanence.api.talks import GONE, find_talk
from remanence.commands.caller import Caller, state_of
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
    found: list[Any] = []
    seen = _Seen(caller)
    for index, one in enumerate(items):
        name = _name(one)
        item = await seen.item(name) if name else one
        if item is None:
            raise NotFound(
                f"Item with id '{name[:200]}' not found. Nothing was written. Items of responses that are not stored, "
                "and those that were deleted, cannot be referred to: send the item itself.",
                param=f"{path}[{index}].id",
            )
        found.append(item)
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
    """The items of the sessions that were looked into for one request: each session is read once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._items: dict[str, dict[str, Item]] = {}

    async def item(self, name: str) -> Item | None:
        """The item of this id, if the caller's project has it."""
        spoken = _SPOKEN.fullmatch(name)
        if spoken is not None:
            return await self._spoken(name, spoken[1], int(spoken[3]))
        for session in _sessions(name):
            if session not in self._items:
                self._items[session] = await self._of_session(session)
            if name in self._items[session]:
                return self._items[session][name]
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

    async def _of_session(self, session: str) -> dict[str, Item]:
        try:
            s = await state_of(self._caller, session)
        except NotFound:
            return {}
        if s.project != self._caller.project or s.deleted:
            return {}
        said = await items_said(self._caller, s, encrypted=True)
        return {item["id"]: item for item, _ in said}


def _sessions(name: str) -> Iterator[str]:
    """The sessions an id may be of: what is left of it without its kind and one to some pieces of its end."""
    rest = name.partition("_")[2]
    for _ in range(_TAIL_MAX):
        rest = rest.rpartition("_")[0]
        if not rest:
            return
        yield rest
