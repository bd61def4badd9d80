"""What is remembered survives: workers killed while agents take notes, correct them, consolidate and erase.

A run is three sessions of two people. An agent notes and corrects what it is told; another takes notes of what was said
meanwhile; then one of the people is erased. Every worker, and whoever carries out the erasure, dies by a real `SIGKILL`
before or after a write to the journal, the index, the registry or the blobs, or around a model call.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from remanence.agent import Agent
from remanence.app import Options, Remanence, open_database
from remanence.commands.consolidation import Consolidating
from remanence.content import Text, ToolCall, ToolResult, text_of
from remanence.errors import NotFound
from remanence.models.scripted import Scripted, last_user_text, step_of
from remanence.ports import Cursor, Database, Entry, Memories, ModelReply, ModelRequest, Registry
from remanence.recollections import MemoryChange, MemoryRemoval, MemorySelector
from remanence.runtime.services import Times
from remanence.spec import Limits
from remanence.testing.faults.fuse import FaultyDatabase, FaultyModel, Fuse

__all__ = ["AGENT", "USES", "inputs_of", "keeper", "rare_word", "remember", "texts_of"]

AGENT: Final = Agent(
    "rememberer", model="scripted", instructions="Remember.", memory=True, limits=Limits(model_attempts=99)
)
USES: Final = Consolidating("scripted")
_NOTED: Final = re.compile(r"Noted as (mem_\w+)")
_EPISODE: Final = re.compile(r"^- (\S+#\d+)$", re.MULTILINE)


def rare_word(user: str) -> str:
    """A word that only what this user says has in it."""
    return f"quince{user}".replace("-", "")


def inputs_of(user: str, session: int) -> Sequence[str]:
    """What a user says in one session."""
    rare = rare_word(user)
    return (
        f"note The spare key number {session} lies under the {rare} pot behind the shed.",
        f"note The hedge by the {rare} gate number {session} is trimmed in May.",
        f"correct The hedge by the {rare} gate number {session} is trimmed in June.",
        f"Where does the spare key number {session} lie?",
    )


def texts_of(user: str, session: int) -> frozenset[str]:
    """What the notes of one session say in the end."""
    first, _, third, _ = inputs_of(user, session)
    return frozenset({first.partition(" ")[2], third.partition(" ")[2]})


def keeper(request: ModelRequest) -> ModelReply:
    """Does what it is told; a consolidation notes the first episode it is given, and other words are answered with
    everything in view. What was looked up is said again."""
    words, _, rest = last_user_text(request).partition(" ")
    if step_of(request):
        return ModelReply((Text(_results(request)[-1] if words == "look" else "Done."),))
    if words == "note":
        return _calls("memory_write", text=rest)
    if words == "about":
        subject, _, text = rest.partition(" ")
        return _calls("memory_write", text=text, subjects=[subject])
    if words == "look":
        return _calls("memory_search", query=rest)
    if words in ("correct", "change") and (noted := _noted(request)):
        since = {"since": "2031-05-01"} if words == "change" else {}
        return _calls("memory_update", memory=noted[-1], text=rest, **since)
    episodes = _EPISODE.findall(last_user_text(request))
    if episodes:
        return _calls("memory_write", text=f"It was said: {_view(request)[:300]}", source=episodes[0])
    return ModelReply((Text(_view(request)),))


def _calls(tool: str, **given: Any) -> ModelReply:
    return ModelReply((ToolCall("x", tool, msgspec.json.encode(given).decode()),))


def _view(request: ModelRequest) -> str:
    return "\n".join(text_of(message.parts) for message in request.messages if message.role == "user")


def _results(request: ModelRequest) -> list[str]:
    parts = [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    return [text_of(part.parts) for part in parts]


def _noted(request: ModelRequest) -> list[str]:
    return _NOTED.findall("\n".join(_results(request)))


# --- a worker that dies -----------------------------------------------------------------------------------------------


class FaultyMemories:
    """An index whose writes are points, before and after."""

    def __init__(self, memories: Memories, fuse: Fuse) -> None:
        self._memories = memories
        self._fuse = fuse

        self.search = memories.search
        self.get = memories.get
        self.history = memories.history
        self.list = memories.list
        self.places = memories.places
        self.clear = memories.clear
        self.begun = memories.begun
        self.stats = memories.stats

    async def apply(self, changes: Sequence[MemoryChange], cursor: Cursor | None = None) -> bool:
        self._fuse.point()
        applied = await self._memories.apply(changes, cursor)
        self._fuse.point()
        return applied

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        self._fuse.point()
        removed = await self._memories.remove(selector)
        self._fuse.point()
        return removed


class FaultyRegistry:
    """A registry whose writes are points, before and after."""

    def __init__(self, registry: Registry, fuse: Fuse) -> None:
        self._registry = registry
        self._fuse = fuse

        self.get = registry.get
        self.list = registry.list
        self.kinds = registry.kinds

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        self._fuse.point()
        kept = await self._registry.put(entry, expect=expect)
        self._fuse.point()
        return kept

    async def remove(self, kind: str, name: str) -> None:
        self._fuse.point()
        await self._registry.remove(kind, name)
        self._fuse.point()


class FaultyMemoryDatabase(FaultyDatabase):
    """A database whose journal, blobs, index and registry are faulty."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        super().__init__(database, fuse)
        self.memories = FaultyMemories(database.memories, fuse)
        self.registry = FaultyRegistry(database.registry, fuse)


async def remember(order: dict[str, Any], fuse: Fuse, times: Times) -> None:
    """Be a worker until SIGTERM or until the fuse blows; with the act `erase`, until `user` is erased."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = await open_database(order["database"])
    options = Options(
        times=times,
        database=FaultyMemoryDatabase(database, fuse),
        model=FaultyModel(Scripted(keeper), fuse),
        worker_name=order["name"],
    )
    async with Remanence(order["database"], agents=[AGENT], options=options) as rt:
        match order["act"]:
            case "erase":
                with suppress(NotFound):
                    await rt.memory.erase("user", order["user"], reason="asked to")
            case "consolidate":
                await rt.memory.consolidate(USES, now=True)
                await stop.wait()
            case _:
                await stop.wait()
    await database.close()
