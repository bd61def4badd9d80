"""Who asks, and how often: the key of each request, its scopes, its project, its rate.

A route names the scope it needs and gets a `Caller` of the key's project whose actor is the key, so that everything a
verb journals says which key it was:

    @router.get("/things")
    async def things(caller: Annotated[Caller, Depends(may("api"))]) -> ...

What belongs to another project is answered as if it did not exist. The scope `api` opens everything under `/v1`, `read`
only what reads there, `admin` everything under `/admin/v1`.

The command line on the server's own machine has a key that the server made for it (`local_principal`). With that one,
two headers say for whom and where it speaks: `x-remanence-as` and `x-remanence-project`. Any other key is refused them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from msgspec.structs import replace

from remanence.api.bodies import check_query
from remanence.api.bound_keys import bind_key
from remanence.commands.caller import Caller, state_of
from remanence.commands.keys import SCOPES, Keyring, Principal, Scope
from remanence.core.state import Session
from remanence.errors import AccessDenied, NotFound, RateLimited, Unauthenticated
from remanence.ports import Clock

__all__ = [
    "AS",
    "IN_PROJECT",
    "Access",
    "Rate",
    "StandIn",
    "access_of",
    "development_principal",
    "local_principal",
    "may",
    "owned_session",
]

AS = "x-remanence-as"
IN_PROJECT = "x-remanence-project"
"""For whom, and in which project, the command line speaks: percent-encoded."""

BUCKETS_MAX = 10_000
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MICROS = 1_000_000

_bearer = HTTPBearer(auto_error=False, description="A key made with `remanence keys create NAME`.")


class Rate(msgspec.Struct, frozen=True):
    """How often one key may ask: `per_minute` requests in the long run (0: without limit), `burst` at once."""

    per_minute: int = 0
    burst: int = 60


def development_principal(project: str) -> Principal:
    """Whoever holds the key that `remanence dev` prints: everything, in one project."""
    return Principal("development", "key:development", project, frozenset(SCOPES))


def local_principal(project: str) -> Principal:
    """The command line on the machine of the server: whoever sits there, by the name they give."""
    return Principal("local", "key:local", project, frozenset(SCOPES), stands_in=True)


class StandIn(NamedTuple):
    """For whom somebody says they speak, and in which project; empty: for themselves, in their own."""

    person: str = ""
    project: str = ""


class Access:
    """Checks keys and counts requests; one for a process. `own` are keys that live and die with it, by their text."""

    def __init__(self, caller: Caller, *, own: dict[str, Principal] | None = None, rate: Rate | None = None) -> None:
        self.keyring = Keyring(caller.database.registry, caller.clock, own=own)
        self._caller = caller
        self._buckets = _Buckets(rate or Rate(), caller.clock)

    async def identify(self, authorization: str | None) -> Principal:
        """Whose key an `Authorization` header holds. Raises Unauthenticated."""
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Unauthenticated(
                "This needs an API key. Nothing was done. Make one with `remanence keys create NAME` and send it as "
                "`Authorization: Bearer KEY`."
            )
        return await self.keyring.check(token.strip())

    async def admit(
        self, authorization: str | None, scope: Scope, *, reads: bool = False, stand_in: StandIn | None = None
    ) -> Caller:
        """The caller behind an `Authorization` header. Raises Unauthenticated, AccessDenied, RateLimited."""
        return self.admitted(await self.identify(authorization), scope, reads=reads, stand_in=stand_in)

    def admitted(
        self, principal: Principal, scope: Scope, *, reads: bool = False, stand_in: StandIn | None = None
    ) -> Caller:
        """The caller whose key this is, and one request more of it. Raises AccessDenied, RateLimited."""
        if scope not in principal.scopes and not (reads and scope == "api" and "read" in principal.scopes):
            raise AccessDenied(
                f"This needs a key with the scope {scope!r}; yours has {', '.join(sorted(principal.scopes))}. Nothing "
                "was done. Make another with `remanence keys create NAME --scope SCOPE`."
            )
        person, project = stand_in or StandIn()
        if principal.stands_in:
            return replace(self._caller, actor=person or principal.actor, project=project or principal.project)
        if person or project:
            raise AccessDenied(
                f"Only the command line's own key may speak for somebody else ({AS}, {IN_PROJECT}). Nothing was done; "
                "leave these headers out."
            )
        self._buckets.take(principal.key)
        return replace(self._caller, actor=principal.actor, project=principal.project)


class _Buckets:
    """A bucket of tokens for each key: it holds `burst`, and `per_minute` drip into it."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str) -> None:
        if not self._rate.per_minute:
            return
        now = self._clock.now()
        level, at = self._levels.get(key, (float(self._rate.burst), now))
        per_second = self._rate.per_minute / 60
        level = min(float(self._rate.burst), level + max(0, now - at) / _MICROS * per_second)
        if level < 1:
            wait_s = max(1, math.ceil((1 - level) / per_second))  # as the header says it: in whole seconds
            raise RateLimited(
                f"This key may ask {self._rate.per_minute} times a minute. Nothing was done; ask again in {wait_s} s.",
                retry_after_s=wait_s,
            )
        self._levels[key] = (level - 1, now)
        self._levels.move_to_end(key)
        if len(self._levels) > BUCKETS_MAX:
            self._levels.popitem(last=False)


def access_of(state: Any) -> Access:
    """The access of an application, from `app.state`."""
    return state.access


def may(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller of a request, who must have this scope."""

    async def admitted(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        header = f"{credentials.scheme} {credentials.credentials}" if credentials else None
        stand_in = StandIn(*(unquote(request.headers.get(name, "")) for name in (AS, IN_PROJECT)))
        access = access_of(request.app.state)
        caller = await access.admit(header, scope, reads=request.method in _READING, stand_in=stand_in)
        check_query(request)
        await bind_key(caller, request)
        return caller

    return admitted


async def owned_session(caller: Caller, session: str) -> Session:
    """A session of the caller's project, as it stands. One of another project is not found, like one that is not."""
    s = await state_of(caller, session)
    if s.project != caller.project:
        raise NotFound(f"There is no session {session!r}. `remanence sessions list` shows those there are.")
    return s
