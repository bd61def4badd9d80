"""Where a response is: its id says which input of which session it answers; beside the journal only its echo is kept.

`resp_SESSION_POSITION` is the response to the input at that position. What it came to is read from the journal each
time. The registry's entry of kind `response` holds what the journal does not: what the request said that no model
needs (`metadata`, ...), and that the response exists for the API: deleting it removes the entry.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, get_args

import msgspec

from remanence.api.responses.fold import Fold, Pending
from remanence.api.responses.input import Spoken
from remanence.api.responses.items import Item, Shown, list_item
from remanence.api.responses.request import Echo
from remanence.commands.caller import Caller
from remanence.commands.entries import own_entry
from remanence.commands.given import Key
from remanence.content import Usage, digest_of
from remanence.errors import InvalidInput, KeyReused, NotFound
from remanence.events import Recorded
from remanence.ports import Entry
from remanence.spec import ServiceTier
from remanence.stores.reading import pages_of

__all__ = [
    "KIND",
    "Kept",
    "Offer",
    "UnknownPrevious",
    "find",
    "made_by",
    "entries_of",
    "fold_of",
    "forget",
    "make_fold",
    "read_all",
    "remember",
    "response_id",
    "response_object",
    "usage_of",
]

KIND = "response"
KEYS = "response_key"
KEY_KEPT_US = 86_400 * 1_000_000
_PAGE = 500
_MICROS = 1_000_000
_ERRORS = {"rate_limited": "rate_limit_exceeded", "invalid_request": "invalid_prompt", "content": "invalid_prompt"}


class UnknownPrevious(InvalidInput):
    """There is no such response to go on from."""

    code = "previous_response_not_found"


class Offer(msgspec.Struct, frozen=True):
    """What an MCP server offers, as clients are shown it."""

    label: str
    tools: list[dict[str, Any]]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """One response, as far as the journal does not tell. `turn` is set when its input went on with an open turn."""

    session: str
    position: int
    inputs: int
    agent: str
    at: int
    echo: Echo
    turn: int | None = None
    client_tools: tuple[str, ...] = ()
    background: bool = False
    store: bool = True
    previous: str | None = None
    conversation: str | None = None
    spoken: tuple[Spoken, ...] = ()
    carried: tuple[Spoken, ...] = ()
    """What systems and developers said in this conversation before this input."""
    remotes: dict[str, tuple[str, str]] = {}
    """The MCP server's label, and its own name for the tool, of each tool that runs on one."""
    offers: tuple[Offer, ...] = ()
    """What MCP servers offer, as far as the conversation was not told before."""
    servers: tuple[str, ...] = ()
    """The labels of the MCP servers the request named."""
    asks_here: bool = False
    """Whether approvals are the client's to give: then a response ends where one is needed."""
    pending: tuple[Pending, ...] = ()
    """The calls that had no outcome yet when this response began, in an open turn."""

    @property
    def id(self) -> str:
        return response_id(self.session, self.position)

    @property
    def shown(self) -> Shown:
        return Shown(self.session, self.agent, frozenset(self.client_tools), self.echo.encrypted, self.remotes)


def response_id(session: str, position: int) -> str:
    """The id of the response to the input at a position."""
    return f"resp_{session}_{position}"


def entries_of(caller: Caller, kept: Kept, key: Key | None) -> tuple[Entry, ...]:
    """What is kept of a response: its echo, and that the request under this key made it."""
    entries = [Entry(KIND, caller.project, kept.id, kept.at, kept.at, msgspec.json.encode(kept))]
    if key is not None:
        body = msgspec.json.encode((key.digest, kept.id))
        entries.append(Entry(KEYS, caller.project, _key(caller, key), kept.at, kept.at, body))
    return tuple(entries)


async def remember(caller: Caller, kept: Kept, key: Key | None) -> None:
    """Keep a response, after its input was journaled: not of one that is erased by now, as what was kept of it is."""
    for entry in entries_of(caller, kept, key):
        await caller.database.registry.put(entry)
    records = await caller.database.store.read(kept.session, after=kept.position - 1, limit=1)
    if records and records[0].redacted:
        with contextlib.suppress(NotFound):
            await caller.database.registry.remove(KIND, kept.id)


async def made_by(caller: Caller, key: Key) -> Kept | None:
    """The response that the same request made within a day, if it did. Raises KeyReused for another request's key."""
    try:
        entry = await caller.database.registry.get(KEYS, _key(caller, key))
    except NotFound:
        return None
    if caller.clock.now() - entry.updated_at > KEY_KEPT_US:
        return None
    digest, name = msgspec.json.decode(entry.body, type=tuple[str, str])
    if digest != key.digest:
        raise KeyReused(
            f"The idempotency key was used before with another request, which made {name}. Nothing of this one was "
            "kept. Send it again under a key of its own."
        )
    return await find(caller, name)


def _key(caller: Caller, key: Key) -> str:
    return digest_of(caller.project.encode(), key.name.encode())


async def find(caller: Caller, name: str) -> Kept:
    """The response of this id. Raises NotFound, also when it is another project's."""
    entry = await own_entry(caller, KIND, name)
    if entry is None:
        raise NotFound(f"Response with id '{name}' not found. It was never made here, was deleted, or was not stored.")
    return msgspec.json.decode(entry.body, type=Kept)


async def forget(caller: Caller, kept: Kept) -> None:
    """Remove a response from the API. Raises NotFound when somebody was faster."""
    await caller.database.registry.remove(KIND, kept.id)


async def read_all(caller: Caller, session: str, *, after: int = 0, upto: int = sys.maxsize) -> list[Recorded]:
    """Every record of a session after a position, up to another."""
    pages = pages_of(caller.database.store, session, after=after, upto=upto, limit=_PAGE)
    return [record async for records in pages for record in records]


def make_fold(kept: Kept, *, after: int = -1) -> Fold:
    """An empty fold of a response, whose events show the response as it stands."""
    fold = Fold(kept.shown, kept.position, kept.inputs, turn=kept.turn, after=after)
    fold.asks_here = kept.asks_here
    fold.take_up(kept.pending)
    fold.offers = [list_item(kept.id, offer.label, offer.tools) for offer in kept.offers]
    fold.background = kept.background
    fold.snapshot = lambda: response_object(kept, fold)
    return fold


async def fold_of(caller: Caller, kept: Kept) -> Fold:
    """A response as far as the journal goes now; reads its own records only."""
    fold, after = make_fold(kept), kept.position - 1
    while not fold.done:
        records = await caller.database.store.read(kept.session, after=after, limit=_PAGE)
        for record in records:
            fold.add(record)
        if len(records) < _PAGE:
            break
        after = records[-1].position
    fold.take_events()
    return fold


# --- the object -------------------------------------------------------------------------------------------------------


def usage_of(used: Usage) -> Item:
    """Tokens, as providers counted them."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "cache_write_tokens": used.cache_write_tokens,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.total_tokens,
    }


def response_object(kept: Kept, fold: Fold) -> Item:
    """The response as it stands. `waiting_on` is there while a person has to do something about it."""
    echo = kept.echo
    status = fold.status if kept.background or fold.status != "queued" else "in_progress"
    made: Item = {
        "id": kept.id,
        "object": "response",
        "created_at": kept.at // _MICROS,
        "completed_at": fold.ended_at // _MICROS if fold.ended_at and status == "completed" else None,
        "status": status,
        "background": kept.background,
        "error": _error(fold) if status == "failed" else None,
        "incomplete_details": _incomplete(fold) if status == "incomplete" else None,
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "max_tool_calls": echo.max_tool_calls,
        "model": echo.model,
        "output": [dict(item) for item in fold.items],
        "parallel_tool_calls": echo.parallel_tool_calls,
        "previous_response_id": kept.previous,
        "prompt_cache_key": echo.prompt_cache_key,
        "prompt_cache_retention": echo.prompt_cache_retention,
        "reasoning": {"effort": None, "summary": None} | echo.reasoning,
        "safety_identifier": echo.safety_identifier,
        "service_tier": _tier(fold, echo),
        "store": kept.store,
        "temperature": echo.temperature,
        "text": echo.text or {"format": {"type": "text"}},
        "tool_choice": echo.tool_choice,
        "tools": echo.tools,
        "top_logprobs": echo.top_logprobs,
        "top_p": echo.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": echo.truncation,
        "usage": usage_of(fold.usage) if fold.done and fold.replied else None,
        "metadata": echo.metadata,
    }
    if kept.conversation is not None:
        made["conversation"] = {"id": kept.conversation}
    if echo.user is not None:
        made["user"] = echo.user
    if fold.waits.found and not fold.done:
        made["waiting_on"] = {"session": kept.session, **_waiting(fold)}
    return made


_TIERS = frozenset(get_args(ServiceTier))


def _tier(fold: Fold, echo: Echo) -> str:
    """The service tier: the one the provider says it used, before that the one asked for. Others have but one."""
    if fold.replied:
        return fold.tier if fold.tier in _TIERS else "default"
    return echo.service_tier or "default"


def _waiting(fold: Fold) -> Item:
    call, kind = next(iter(fold.waits.found.items()))
    return {"kind": kind, "call": call if call not in ("budget", "freeze", "session") else None}


def _error(fold: Fold) -> Item:
    words = fold.failure or fold.reason or "the turn failed"
    return {"code": _ERRORS.get(fold.failure_kind, "server_error"), "message": words}


def _incomplete(fold: Fold) -> Item:
    return {"reason": "content_filter" if fold.stop == "content_filter" else "max_output_tokens"}
