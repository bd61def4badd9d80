"""Signing in to the console: a key, or the link that `dev` prints, is exchanged for a session of the browser.

A session is a random text that only the browser's cookie holds; the registry keeps its SHA-256 under the kind
`console_session`, with the key it came from and the moment it ends. Each request looks at both again: a revoked key
closes what was opened with it. Sessions outlive the process, so whoever is signed in stays so across a restart. One
that came from the key of `dev` opens nothing but a `dev` of the same project, over the same database.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

import msgspec

from remanence.commands.caller import Caller
from remanence.commands.keys import Keyring, Principal
from remanence.errors import Conflict, NotFound, Unauthenticated
from remanence.ports import Entry, EntryQuery

__all__ = ["KIND", "SIGNED_IN_S", "sign_in", "sign_out", "signed_in"]

KIND = "console_session"
SIGNED_IN_S = 12 * 3600
_MICROS = 1_000_000
_SWEEP = 50


class _Body(msgspec.Struct, frozen=True):
    key: str
    expires_at: int


async def sign_in(
    caller: Caller, principal: Principal, *, make_secret: Callable[[], str] = secrets.token_urlsafe
) -> str:
    """Open a session for whoever holds this key. Returns what the browser keeps."""
    await _sweep(caller)
    token, now = make_secret(), caller.clock.now()
    body = _Body(principal.key, now + SIGNED_IN_S * _MICROS)
    entry = Entry(KIND, principal.project, _name(token), now, now, msgspec.json.encode(body))
    await caller.database.registry.put(entry, expect=0)
    return token


async def signed_in(caller: Caller, keyring: Keyring, token: str) -> Principal:
    """Whose session this is, as their key stands now. Raises Unauthenticated when it is over."""
    try:
        entry = await caller.database.registry.get(KIND, _name(token))
    except NotFound:
        raise Unauthenticated("You are not signed in here any more. Nothing was done; sign in again.").because(
            "signed_out"
        ) from None
    body = msgspec.json.decode(entry.body, type=_Body)
    if caller.clock.now() >= body.expires_at:
        raise Unauthenticated(
            "You were signed in for twelve hours, which are over. Nothing was done; sign in again."
        ).because("sign_in_over")
    principal = await keyring.principal(body.key)
    if principal.project != entry.project:
        raise Unauthenticated("You signed in to another project. Nothing was done; sign in again.").because(
            "signed_in_elsewhere"
        )
    return principal


async def sign_out(caller: Caller, token: str) -> None:
    """End a session; one that has ended stays so."""
    try:
        await caller.database.registry.remove(KIND, _name(token))
    except NotFound:
        return


async def _sweep(caller: Caller) -> None:
    """Remove the oldest sessions that are over, so that they do not pile up."""
    now = caller.clock.now()
    for entry in await caller.database.registry.list(EntryQuery(KIND, limit=_SWEEP)):
        if now >= msgspec.json.decode(entry.body, type=_Body).expires_at:
            try:
                await caller.database.registry.remove(KIND, entry.id)
            except (NotFound, Conflict):
                continue


def _name(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
