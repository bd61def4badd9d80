"""Requests that are made once: what an `Idempotency-Key` is worth where no journal answers for it.

Inputs are journaled under their key, in one transaction with what they say, and need nothing of this. Everything else
that makes or changes something keeps its *answer* under the key, for `KEPT_S`: the same key with the same request is
answered with that, another request is refused with 409.

A key is claimed before anything is done, by an entry of the registry that carries the digest of the request. While the
request runs its claim is renewed, so that the same request elsewhere waits for the answer; a claim nobody renews is a
process that died, and the request is made again (a verb that appends to a journal does so under the key and does it
once even then). A request that failed keeps nothing: made again under its key, it is tried again.

A stream is kept as it was sent, once it has ended; one that broke off is not kept.

Where the answer can be read from a journal, only a *pointer* to it is kept (`found_before`, `remember`): what is erased
there must not live on here. An erasure empties the answers that say it, and marks the claims of requests that are being
answered: what these are answered with is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
from collections.abc import Awaitable, Callable, Generator
from functools import wraps
from typing import Annotated, Any, TypeVar

import msgspec
import structlog
from fastapi import Header, Request, Response
from msgspec.structs import replace
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from remanence.api.bound_keys import path_of
from remanence.commands.caller import Caller
from remanence.commands.given import Key
from remanence.commands.sessions import Once
from remanence.content import digest_of
from remanence.errors import Conflict, InvalidInput, KeyReused, NotFound, RemanenceError
from remanence.ports import Entry, EntryQuery

__all__ = [
    "KEPT_S",
    "KIND",
    "REPLAYED",
    "IdempotencyKey",
    "digest_of_request",
    "found_before",
    "mark_under",
    "once",
    "once_under",
    "only_once",
    "remember",
    "reused",
]

T = TypeVar("T")

log = structlog.get_logger("remanence.http")

KIND = "kept_answer"
POINTERS = "kept_pointer"
KEPT_S = 86_400
RENEW_S = 5.0
DEAD_S = 20.0
"""A claim that was not renewed for so long belongs to a process that is gone."""
PATIENCE_S = 30.0
LOOK_S = 0.1
ANSWER_BYTES_MAX = 4 * 1024 * 1024
REPLAYED = "idempotent-replayed"
_PRUNED_AT_ONCE = 4
_MICROS = 1_000_000
_BY_NAME = inspect.Parameter.KEYWORD_ONLY

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="The same key and request again, within a day: the same answer."),
]
LastEventId = Annotated[
    str | None,
    Header(max_length=10_000, description="Of a stream that is asked for again under its key: go on after this event."),
]


def check_heard(last_event_id: str | None, key: str | None, *, streamed: bool) -> None:
    """Raise InvalidInput when a request that writes says what was heard of its answer, and none could have been."""
    if last_event_id is not None and (key is None or not streamed):
        raise InvalidInput(
            "last-event-id: only a streamed answer that was asked for under an `Idempotency-Key` can be gone on with, "
            "by the same request under the same key. Nothing was sent.",
            param="last-event-id",
        )


class _Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands under a key: the digest of the request, who works on it, and once it is answered (`status`) the
    answer. It is not kept when it is `too_large`, or when an erasure said so of whatever is being answered."""

    request: str
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    too_large: bool = False
    by: str = ""


def once(route: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Honour an `Idempotency-Key` on this route. It must take `caller`, and may take the key as `idempotency_key`."""
    known = inspect.signature(route)
    given = set(known.parameters)

    @wraps(route)
    async def kept(**kwargs: Any) -> Response:
        key: Any = kwargs["idempotency_key"]
        request: Any = kwargs["request"]
        caller: Any = kwargs["caller"]
        wanted = {name: value for name, value in kwargs.items() if name in given}
        if key is None:
            return await route(**wanted)
        digest = await digest_of_request(request)
        return await only_once(caller, key, digest, lambda: route(**wanted))

    taken = [parameter.replace(kind=_BY_NAME) for parameter in known.parameters.values()]
    added = [
        inspect.Parameter("request", _BY_NAME, annotation=Request),
        inspect.Parameter("idempotency_key", _BY_NAME, default=None, annotation=IdempotencyKey),
    ]
    added = [parameter for parameter in added if parameter.name not in given]
    kept.__signature__ = known.replace(parameters=[*taken, *added])  # pyright: ignore[reportAttributeAccessIssue]
    return kept


async def digest_of_request(request: Request, *beside: str | None) -> str:
    """What a key is bound to: the method, the path, the body, whose spelling as JSON does not matter, and `beside`."""
    body = await request.body()
    with contextlib.suppress(ValueError):
        body = msgspec.json.encode(await request.json(), order="sorted") if body else b""
    named = f"{request.method} {path_of(request)}?{request.url.query}"
    return digest_of(named.encode(), body, *(str(text).encode() for text in beside))


def once_under(key: str | None, verb: str, body: BaseModel) -> Once | None:
    """What a word about a session is journaled under: it is said once, also when its first server died before it
    answered. `verb` keeps it apart from what is said in the session, which has keys of its own."""
    return Once(f"{verb}:{key}", body.model_dump()) if key else None


async def only_once(caller: Caller, key: str, digest: str, make: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of `make`, or the one it had when the same request was made under this key before.

    Raises KeyReused when another request was, Conflict when the same one is still being worked on.
    """
    name = _name(caller, key)
    deadline = caller.clock.now() + int(PATIENCE_S * _MICROS)
    while True:
        entry = await _claim(caller, name, digest)
        if not isinstance(entry, _Claim):
            break
        if entry.request != digest:
            raise reused()
        if entry.status:
            return _again(entry)
        if caller.clock.now() > deadline:
            raise Conflict(
                "The same request, under the same idempotency key, is still being worked on. Nothing was done twice; "
                "ask again later for its answer."
            )
        await caller.clock.sleep(LOOK_S)
    claim = _Held(caller, entry)
    try:
        answer = await make()
    except BaseException:
        await claim.give_up()
        raise
    return _Keeping(answer, claim)


async def _claim(caller: Caller, name: str, digest: str) -> Entry | _Claim:
    """The entry, when the key is free for this request, else what stands under it."""
    now = caller.clock.now()
    claim = _Claim(digest, by=secrets.token_hex(8))
    wanted = Entry(KIND, caller.project, name, now, now, msgspec.json.encode(claim))
    try:
        known = await caller.database.registry.get(KIND, name)
    except NotFound:
        known = None
    expect = 0
    if known is not None:
        there = msgspec.json.decode(known.body, type=_Claim)
        age_s = (now - known.updated_at) / _MICROS
        if age_s < (KEPT_S if there.status else DEAD_S if there.request == digest else KEPT_S):
            return there
        expect = known.revision
    try:
        made = await caller.database.registry.put(wanted, expect=expect)
    except Conflict:
        return _Claim(digest)  # somebody was faster; look again
    await _prune(caller, KIND, name)
    return made


async def _prune(caller: Caller, kind: str, but: str) -> None:
    """Forget a few of the oldest answers whose time is over: more than are made, so that they do not pile up."""
    for entry in await caller.database.registry.list(EntryQuery(kind, caller.project, limit=_PRUNED_AT_ONCE)):
        if entry.id != but and caller.clock.now() - entry.updated_at > KEPT_S * _MICROS:
            with contextlib.suppress(NotFound):
                await caller.database.registry.remove(kind, entry.id)


# --- pointers ---------------------------------------------------------------------------------------------------------


async def found_before(caller: Caller, key: Key, kind: type[T]) -> T | None:
    """What the same request was remembered by under this key. Raises KeyReused when it was another request."""
    try:
        entry = await caller.database.registry.get(POINTERS, _name(caller, key.name))
    except NotFound:
        return None
    if caller.clock.now() - entry.updated_at > KEPT_S * _MICROS:
        return None
    digest, pointer = msgspec.json.decode(entry.body, type=tuple[str, msgspec.Raw])
    if digest != key.digest:
        raise reused()
    return msgspec.json.decode(pointer, type=kind)


async def remember(caller: Caller, key: Key, pointer: object) -> None:
    """Keep where the answer of a request is."""
    entry = _pointing(caller, key, pointer)
    await caller.database.registry.put(entry)
    await _prune(caller, POINTERS, entry.id)


async def mark_under(caller: Caller, key: Key) -> Entry | None:
    """What a change outside of the journals is to keep in its own transaction, so that it is made once under the key.

    None when it was made. Raises KeyReused when it was another request.
    """
    if await found_before(caller, key, bool):
        return None
    mark = _pointing(caller, key, True)
    with contextlib.suppress(NotFound):
        await caller.database.registry.remove(POINTERS, mark.id)  # one whose time is over
    await _prune(caller, POINTERS, mark.id)
    return mark


def _pointing(caller: Caller, key: Key, pointer: object) -> Entry:
    now = caller.clock.now()
    body = msgspec.json.encode((key.digest, pointer))
    return Entry(POINTERS, caller.project, _name(caller, key.name), now, now, body)


def _name(caller: Caller, key: str) -> str:
    return digest_of(caller.project.encode(), key.encode())


def reused() -> KeyReused:
    """Another request came under a key that was used."""
    return KeyReused(
        "The idempotency key was used before with another request, which stands. Nothing of this one was done. Send it "
        "again under a key of its own."
    )


# --- answers ----------------------------------------------------------------------------------------------------------


class _Held:
    """A claim on a key while its request is worked on.

    A process that was stopped for longer than `DEAD_S` may find that another has made the request meanwhile: its claim
    is lost then, and what the other keeps stands.
    """

    def __init__(self, caller: Caller, entry: Entry) -> None:
        self._caller = caller
        self._entry = entry
        self._claim = msgspec.json.decode(entry.body, type=_Claim)
        self._renewing = asyncio.create_task(self._renew(), name="idempotency key")

    async def _renew(self) -> None:
        while True:
            await self._caller.clock.sleep(RENEW_S)
            try:
                if not await self._put(self._claim):
                    return
            except RemanenceError as error:
                log.warning("the claim on an idempotency key was not renewed", error=error.message)

    async def _put(self, claim: _Claim) -> bool:
        """Let this stand under the key. False when the claim is lost."""
        while True:
            if self._claim.too_large:  # something was erased that the answer may have in it
                claim = replace(claim, body=b"", too_large=True)
            body = msgspec.json.encode(claim)
            entry = replace(self._entry, updated_at=self._caller.clock.now(), body=body)
            try:
                self._entry = await self._caller.database.registry.put(entry, expect=self._entry.revision)
                return True
            except Conflict:  # perhaps with a renewal of ours that was cut off when it had landed
                if not await self._is_ours():
                    return False

    async def _is_ours(self) -> bool:
        try:
            there = await self._caller.database.registry.get(KIND, self._entry.id)
        except NotFound:
            return False
        self._entry, found = there, msgspec.json.decode(there.body, type=_Claim)
        if found.by != self._claim.by:
            return False
        self._claim = replace(self._claim, too_large=found.too_large)
        return True

    async def keep(self, answer: _Claim) -> None:
        """The request is answered: keep that."""
        await self._stop()
        if not await self._put(replace(answer, request=self._claim.request, by=self._claim.by)):
            log.warning("a request took so long that another process made it under the same idempotency key")

    async def give_up(self) -> None:
        """Nothing came of it: the key is free again."""
        await self._stop()
        if await self._is_ours():
            with contextlib.suppress(NotFound):
                await self._caller.database.registry.remove(KIND, self._entry.id)

    async def _stop(self) -> None:
        self._renewing.cancel()
        await asyncio.wait([self._renewing])


def _again(kept: _Claim) -> Response:
    if kept.too_large:
        raise Conflict(
            "The same request was answered before, and its answer is not kept under its idempotency key: it was too "
            "large, or something was erased meanwhile. Nothing was done again; look for what it made."
        )
    answer = Response(kept.body, kept.status)
    for name, value in kept.headers:
        answer.headers[name] = value
    answer.headers[REPLAYED] = "true"
    return answer


class _Keeping(Response):
    """Sends another response on and keeps a copy, before its last piece leaves."""

    def __init__(self, answer: Response, claim: _Held) -> None:
        super().__init__()
        self._answer = answer
        self._claim = claim
        self._start: Message = {}
        self._pieces: list[bytes] = []
        self._done = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._start = message
            elif message["type"] == "http.response.body":
                self._pieces.append(message.get("body", b""))
                if not message.get("more_body") and self._worth_keeping():
                    self._done = True
                    await self._claim.keep(self._kept())
            await send(message)

        try:
            await self._answer(scope, receive, keeping)
        finally:
            if not self._done:
                await asyncio.shield(self._claim.give_up())

    def _worth_keeping(self) -> bool:
        """A stream that ended with an error is tried again."""
        last = next((piece for piece in reversed(self._pieces) if piece), b"")
        return self._start["status"] < 400 and not last.startswith(b'data: {"error"')

    def _kept(self) -> _Claim:
        body = b"".join(self._pieces)
        status, too_large = self._start["status"], len(body) > ANSWER_BYTES_MAX
        return _Claim("", status, tuple(_headers(self._start)), b"" if too_large else body, too_large)


def _headers(start: Message) -> Generator[tuple[str, str]]:
    for name, value in start["headers"]:
        if name not in (b"content-length", b"x-request-id"):
            yield name.decode("latin-1"), value.decode("latin-1")
