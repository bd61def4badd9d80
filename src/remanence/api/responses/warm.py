"""A response of which nothing is generated: `response.create` with `generate: false`, over a WebSocket.

What the request says is read, and whether its model can do it is looked up; no model is called and nothing is written.
It has an id to go on from: what goes on from it begins with its input. It lives as long as the connection, whatever the
request says of `store`, and what follows it may be stored or not, as if its input had come with theirs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec

from remanence.api.responses.fold import WireEvent
from remanence.api.responses.input import Spoken, refuse
from remanence.api.responses.kept import Kept, make_fold
from remanence.api.responses.place import Asked
from remanence.api.responses.request import ResponseBody
from remanence.commands.caller import Caller
from remanence.content import Message
from remanence.events import Recorded, TurnEnded

__all__ = ["Held", "Warm"]


class Held(msgspec.Struct, frozen=True):
    """What can be gone on from without having been stored. `after`: the stored response that it follows, if it does;
    `storable`: whether what follows may be stored."""

    messages: tuple[Message, ...]
    spoken: tuple[Spoken, ...]
    after: str | None = None
    storable: bool = False


class Warm:
    """One response of which nothing is generated."""

    def __init__(self, caller: Caller, asked: Asked, body: ResponseBody, before: Held | None) -> None:
        if asked.talk is not None:
            refuse("conversation", "nothing is added to a conversation before it is answered: add items to it instead")
        if asked.given.approvals:
            refuse("input", "an answer to an approval goes on with a turn, so something is generated")
        self._caller = caller
        self._kept = Kept(
            caller.make_id("warm"), 1, 1, asked.spec.name, caller.clock.now(), asked.echo, turn=1, store=False,
            previous=body.previous_response_id,
        )  # fmt: skip
        after = asked.previous.id if asked.previous is not None else None
        storable = before is None or before.storable
        self.held = Held(asked.given.messages, asked.given.spoken, after, storable)

    @property
    def id(self) -> str:
        return self._kept.id

    async def events(self) -> AsyncGenerator[Sequence[WireEvent]]:
        """It is created, and completed with nothing said."""
        fold, kept = make_fold(self._kept), self._kept
        fold.begin()
        yield fold.take_events()
        now = self._caller.clock.now()
        fold.add(Recorded(kept.session, 2, now, 0, self._caller.actor, TurnEnded(1, "completed")))
        yield fold.take_events()
