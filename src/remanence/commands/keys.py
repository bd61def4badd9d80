"""API keys: made, shown once, checked at every request, revoked.

A key reads `rmn_ID_SECRET`. The id is no secret: it names the key in lists, in logs and in the journal (`key:ID`). Of
the secret only an argon2 hash is kept, in the registry under the kind `api_key`, so a stolen database opens no door. A
hash takes its time on purpose, so what was verified once is remembered by its SHA-256 in memory, and only the entry is
looked at again: a revoked key stops working within `ENTRY_AGE_S` everywhere, at once where it was revoked.

When a key was last used is written at most once a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import msgspec
import structlog
from msgspec.structs import replace

from remanence.commands.caller import Caller, check_name
from remanence.commands.entries import own_entry
from remanence.errors import Conflict, InvalidInput, NotFound, StoreError, Unauthenticated
from remanence.ports import Clock, Entry, EntryQuery, Registry

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = [
    "KIND",
    "SCOPES",
    "CreatedKey",
    "Key",
    "Keyring",
    "Principal",
    "Scope",
    "create_key",
    "list_keys",
    "revoke_key",
]

log = structlog.get_logger("remanence.keys")

K = TypeVar("K")
V = TypeVar("V")

Scope = Literal["api", "read", "admin"]
"""What a key may do: everything under `/v1`, only reading there, everything under `/admin/v1`."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

KIND = "api_key"
PREFIX = "rmn"
ENTRY_AGE_S = 5
EXPIRES_S_MAX = 100 * 365 * 86_400
REMEMBERED_MAX = 10_000
HASHES_AT_ONCE = 2
TOUCH_EVERY_US = 60_000_000
_MICROS = 1_000_000


class Key(msgspec.Struct, frozen=True):
    """A key as it may be shown: never its secret. Times in microseconds since 1970; None: never, or not yet."""

    id: str
    name: str
    project: str
    scopes: tuple[Scope, ...]
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None

    @property
    def prefix(self) -> str:
        """How the key begins."""
        return f"{PREFIX}_{self.id}_"


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key with its text, which is shown this once."""

    key: Key
    text: str


class Principal(msgspec.Struct, frozen=True):
    """Who asks: `actor` is journaled, `project` bounds what can be seen, `scopes` what can be done.

    `stands_in`: it speaks for whoever it says it does, in whichever project; only the command line's key may, because
    who can read that one can open the database as well.
    """

    key: str
    actor: str
    project: str
    scopes: frozenset[Scope]
    stands_in: bool = False


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    expires_at: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None


# --- verbs ------------------------------------------------------------------------------------------------------------


async def create_key(
    caller: Caller,
    name: str,
    *,
    scopes: Sequence[str] = ("api",),
    expires_s: float | None = None,
    make_secret: Callable[[], str] = secrets.token_urlsafe,
) -> tuple[Key, str]:
    """Make a key for the caller's project. Returns it and its text, which is shown this once and kept nowhere."""
    check_name("name", name)
    wanted: set[object] = set(scopes)
    known: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope in wanted)
    if not known or len(known) != len(wanted):
        raise InvalidInput(
            f"A key may have the scopes {', '.join(SCOPES)}, not {', '.join(scopes) or 'none'}. Nothing was made.",
            param="scopes",
        ).because("bad_scopes", known=", ".join(SCOPES))
    if expires_s is not None and not 0 < expires_s <= EXPIRES_S_MAX:
        words = "A key must be good for some time, at most for 100 years. Nothing was made; give another one, or none."
        raise InvalidInput(words, param="expires").because("bad_expiry", days=EXPIRES_S_MAX // 86_400)
    now = caller.clock.now()
    identity = caller.make_id("k").removeprefix("k_")[-12:]
    secret = make_secret()
    body = _Body(
        name,
        await asyncio.to_thread(_hasher().hash, secret),
        known,
        expires_at=None if expires_s is None else now + int(expires_s * _MICROS),
    )
    entry = Entry(KIND, caller.project, identity, now, now, msgspec.json.encode(body))
    return _key_of(await caller.database.registry.put(entry, expect=0)), f"{PREFIX}_{identity}_{secret}"


async def list_keys(caller: Caller) -> list[Key]:
    """The keys of the caller's project, revoked ones too, oldest first."""
    found: list[Key] = []
    query = EntryQuery(KIND, caller.project)
    while True:
        entries = await caller.database.registry.list(query)
        found += [_key_of(entry) for entry in entries]
        if len(entries) < query.limit:
            return found
        query = replace(query, after=entries[-1].id)


async def revoke_key(caller: Caller, identity: str) -> Key:
    """Let a key open nothing any more, by its id, how it begins, or its name where only one good key has that.

    Raises NotFound, and Conflict when it was revoked before or several have the name.
    """
    entry = await _key_called(caller, identity)
    body = msgspec.json.decode(entry.body, type=_Body)
    if body.revoked_at is not None:
        raise Conflict(f"Key {entry.id!r} was revoked before. It stays so.").because("key_revoked_before")
    now = caller.clock.now()
    revoked = msgspec.json.encode(replace(body, revoked_at=now))
    return _key_of(await caller.database.registry.put(replace(entry, updated_at=now, body=revoked)))


async def _key_called(caller: Caller, called: str) -> Entry:
    identity = called.removeprefix(f"{PREFIX}_").partition("_")[0]
    if (entry := await own_entry(caller, KIND, identity)) is not None:
        return entry
    named = [key for key in await list_keys(caller) if key.name == called and key.revoked_at is None]
    if not named:
        raise NotFound(
            f"There is no key {identity!r} in project {caller.project}. Nothing was changed; "
            "`remanence keys list` shows those there are, each with its id."
        ).because("no_key")
    if len(named) > 1:
        raise Conflict(
            f"{len(named)} keys are called {called!r}: {', '.join(key.prefix for key in named)}. Nothing was changed; "
            "name one of these instead."
        ).because("keys_of_one_name")
    return await caller.database.registry.get(KIND, named[0].id)


def _key_of(entry: Entry) -> Key:
    body = msgspec.json.decode(entry.body, type=_Body)
    return Key(
        entry.id,
        body.name,
        entry.project,
        body.scopes,
        entry.at,
        body.expires_at,
        body.last_used_at,
        body.revoked_at,
    )


def _hasher() -> PasswordHasher:
    """OWASP's least memory for argon2id: the secret is 256 random bits, so there is nothing to guess."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


# --- checking ---------------------------------------------------------------------------------------------------------


class Keyring:
    """Checks the keys of requests. One for a process; `own` are keys that live and die with it, by their text."""

    def __init__(self, registry: Registry, clock: Clock, *, own: dict[str, Principal] | None = None) -> None:
        self._registry = registry
        self._clock = clock
        self._own = {_digest(token): principal for token, principal in (own or {}).items()}
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()
        self._entries: OrderedDict[str, tuple[int, Entry]] = OrderedDict()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)

    async def check(self, token: str) -> Principal:
        """Whose key this is. Raises Unauthenticated with what is wrong with it."""
        digest = _digest(token)
        if digest in self._own:
            return self._own[digest]
        prefix, _, rest = token.partition("_")
        identity, _, secret = rest.partition("_")
        if prefix != PREFIX or not identity or not secret:
            raise _refused("It is not a whole key of this server: those look like rmn_ID_SECRET.").because(
                "key_foreign"
            )
        entry = await self._entry(identity)
        body = msgspec.json.decode(entry.body, type=_Body)
        if not await self._verified(digest, secret, body.secret_hash):
            raise _refused("Its secret is wrong.").because("key_wrong")
        return await self._admitted(entry, body)

    async def principal(self, identity: str) -> Principal:
        """Whose key has this id, for whoever proved before that they hold it. Raises Unauthenticated, like `check`."""
        own = next((principal for principal in self._own.values() if principal.key == identity), None)
        if own is not None:
            return own
        entry = await self._entry(identity)
        return await self._admitted(entry, msgspec.json.decode(entry.body, type=_Body))

    async def _admitted(self, entry: Entry, body: _Body) -> Principal:
        now = self._clock.now()
        if body.revoked_at is not None:
            raise _refused("It was revoked.").because("key_revoked")
        if body.expires_at is not None and now >= body.expires_at:
            raise _refused("Its time is over.").because("key_over")
        await self._touch(entry, body, now)
        return Principal(entry.id, f"key:{body.name}", entry.project, frozenset(body.scopes))

    def forget(self) -> None:
        """Look at every entry again: something about keys was changed in this process."""
        self._entries.clear()

    async def _entry(self, identity: str) -> Entry:
        now = self._clock.now()
        known = self._entries.get(identity)
        if known is not None and 0 <= now - known[0] < ENTRY_AGE_S * _MICROS:
            return known[1]
        try:
            entry = await self._registry.get(KIND, identity)
        except NotFound:
            raise _refused("There is no such key.").because("key_unknown") from None
        _keep(self._entries, identity, (now, entry))
        return entry

    async def _verified(self, digest: bytes, secret: str, secret_hash: str) -> bool:
        verdict = self._verdicts.get(digest)
        if verdict is None:
            async with self._hashing:
                # Everybody comes back at once after a restart: who waited here for the same key finds the answer.
                verdict = self._verdicts.get(digest)
                if verdict is None:
                    verdict = await asyncio.to_thread(_matches, secret, secret_hash)
                    _keep(self._verdicts, digest, verdict)
        return verdict

    async def _touch(self, entry: Entry, body: _Body, now: int) -> None:
        """Write down that the key was used, unless that was done within the last minute."""
        if body.last_used_at is not None and now - body.last_used_at < TOUCH_EVERY_US:
            return
        used = replace(entry, body=msgspec.json.encode(replace(body, last_used_at=now)))
        _keep(self._entries, entry.id, (now, used))
        try:
            kept = await self._registry.put(used, expect=entry.revision)
        except Conflict:
            self._entries.pop(entry.id, None)  # somebody else wrote it, or revoked the key just now
        except StoreError as error:
            log.warning("the last use of a key was not written", key=entry.id, error=error.message)
        else:
            _keep(self._entries, entry.id, (now, kept))


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)


def _matches(secret: str, secret_hash: str) -> bool:
    from argon2.exceptions import VerifyMismatchError

    try:
        return _hasher().verify(secret_hash, secret)
    except VerifyMismatchError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The API key was not accepted. {why} Nothing was done. Make one with `remanence keys create NAME` and send it "
        "as `Authorization: Bearer KEY`."
    )
