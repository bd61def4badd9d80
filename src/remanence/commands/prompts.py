"""The exact prompt of any past model call, rebuilt from references and proved by the digest in its intent.

Nothing of a prompt is kept but where its parts stand, so what is shown here is read from the journal: the records of
its window, the summary and the memory blocks it stood under, the version of the agent that was pinned at that moment,
and the records of other sessions that memories point at. When the digest does not fit any more, something of it was
erased since, and the answer says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from remanence.commands.caller import Caller
from remanence.content import Message
from remanence.core.context import Rebuilt, places_in, rebuild_prompt, with_reopening
from remanence.errors import NotFound
from remanence.events import CompactionBegun, ModelCalled, Recorded, SessionOpened, SessionUpgraded
from remanence.spec import AgentSpec, ModelSettings, ToolSpec
from remanence.stores.reading import pages_of, texts_of

__all__ = ["PastPrompt", "PromptShape", "past_prompt"]


class PastPrompt(msgspec.Struct, frozen=True):
    """What one model call was sent. `exact`: the digest of these very bytes is the one that was journaled with it.

    `position` is that of its intent, `at` is microseconds since 1970. `compaction` marks a request for a summary.
    """

    session: str
    call: str
    attempt: int
    position: int
    at: int
    model: str
    exact: bool
    digest: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    settings: ModelSettings
    output_tokens: int
    compaction: bool = False


class PromptShape(msgspec.Struct, frozen=True):
    """The same, as JSON prints it: messages, tools and settings as the journal encodes them."""

    session: str
    call: str
    attempt: int
    position: int
    at: int
    model: str
    exact: bool
    digest: str
    instructions: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    settings: dict[str, Any]
    output_tokens: int
    compaction: bool

    @classmethod
    def of(cls, prompt: PastPrompt) -> PromptShape:
        """The shape of a prompt."""
        return msgspec.convert(msgspec.to_builtins(prompt), cls)


async def past_prompt(caller: Caller, session: str, call: str) -> PastPrompt:
    """The prompt of a call: by its id (its last attempt), such as `model_3_1`, or by the position of its intent.

    Raises NotFound when the session has no such call.
    """
    intent, version = await _find(caller, session, call)
    called = intent.event
    assert isinstance(called, ModelCalled | CompactionBegun)
    spec = await caller.database.specs.get(version)
    rebuilt = await _rebuild(caller, intent, spec)
    return PastPrompt(
        session,
        called.call,
        called.attempt,
        intent.position,
        intent.at,
        called.model,
        rebuilt.exact,
        called.prompt,
        rebuilt.instructions,
        rebuilt.messages,
        (with_reopening(spec) if called.opens else spec).tools,
        spec.settings,
        spec.limits.output_tokens,
        isinstance(called, CompactionBegun),
    )


async def _find(caller: Caller, session: str, call: str) -> tuple[Recorded, str]:
    """The intent of a call, and the version the session was pinned to when it left."""
    version, found = "", None
    async for record in _records(caller, session):
        match record.event:
            case SessionOpened(version=pinned) | SessionUpgraded(version=pinned):
                version = pinned
            case ModelCalled() | CompactionBegun() if call in (record.event.call, str(record.position)):
                found = record, version
            case _:
                pass
    if found is None:
        raise NotFound(
            f"Session {session} has no model call {call!r}. `remanence sessions tail` shows its calls; name one by its "
            "id, such as model_1_1, or by the number of its record."
        )
    return found


async def _rebuild(caller: Caller, intent: Recorded, spec: AgentSpec) -> Rebuilt:
    called, store = intent.event, caller.database.store
    assert isinstance(called, ModelCalled | CompactionBegun)
    records: list[Recorded] = []
    if isinstance(called, ModelCalled) and called.layout == 0:
        records = [record async for record in _records(caller, intent.session) if record.position < intent.position]
        return rebuild_prompt(records, called, spec)
    for earlier in sorted({called.compacted_at, called.shown_at}):
        if 0 < earlier < called.window_from:
            records += await store.read(intent.session, after=earlier - 1, limit=1)
    limit = intent.position - called.window_from
    records += await store.read(intent.session, after=called.window_from - 1, limit=limit) if limit > 0 else ()
    return rebuild_prompt(records, called, spec, await texts_of(store, places_in(records)))


async def _records(caller: Caller, session: str) -> AsyncIterator[Recorded]:
    async for records in pages_of(caller.database.store, session):
        for record in records:
            yield record
