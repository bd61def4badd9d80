"""Keys: which there are, a new one (its text is shown this once), and taking one back."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from remanence.commands import keys
from remanence.commands.keys import SCOPES, Key
from remanence.console.entry import Deciding, Sent, keyring_of
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.ways import WAYS_OF, Ways, ways
from remanence.errors import InvalidInput

__all__ = ["KeysData", "keys_router"]

keys_router = APIRouter(prefix="/keys", route_class=ConsoleRoute, include_in_schema=False)

DAYS = (0, 7, 30, 90, 365)
"""How long a key may be good for, in days; 0: until it is revoked."""
_DAY_S = 86_400


class KeysData(msgspec.Struct, frozen=True):
    """The keys of the project, the newest first, without their secrets."""

    keys: list[Key]


@keys_router.get(".json")
@keys_router.get("")
async def show_keys(frame: Deciding) -> Response:
    """The page."""
    return frame.show(
        "keys.html", "keys", await _data(frame), scopes=SCOPES, days=DAYS, ways=_ways(frame), ways_of=WAYS_OF
    )


@keys_router.post("")
async def create(frame: Deciding, fields: Sent) -> Response:
    """Make a key. The answer is the one place where its text is ever shown; it is not part of a page."""
    try:
        days = int(fields.text("days", "0"))
    except ValueError:
        raise InvalidInput("days: a whole number is needed. Nothing was made.", param="days").because(
            "not_a_number", field="days"
        ) from None
    expires_s = days * _DAY_S if days else None
    key, text = await keys.create_key(
        frame.caller, fields.text("name").strip(), scopes=fields.texts("scopes"), expires_s=expires_s
    )
    return frame.page("_key_made.html", key=key, text=text, data=await _data(frame), ways_of=WAYS_OF)


@keys_router.post("/{key}/revoke")
async def revoke(request: Request, frame: Deciding, key: str) -> Response:
    """Let a key open nothing any more, here from this moment on."""
    revoked = await keys.revoke_key(frame.caller, key)
    keyring_of(request).forget()
    words = frame.words.rich("keys.revoked", name=revoked.name)
    return frame.page("_keys_after.html", data=await _data(frame), words=words, ways_of=WAYS_OF)


async def _data(frame: Frame) -> KeysData:
    return KeysData((await keys.list_keys(frame.caller))[::-1])


def _ways(frame: Frame) -> Ways:
    return ways(
        frame,
        ["keys", "create", "NAME", "--scope", "api"],
        "/admin/v1/keys",
        'await create_key(rt.caller, "NAME", scopes=("api",))',
        body={"name": "NAME", "scopes": ["api"]},
    )
