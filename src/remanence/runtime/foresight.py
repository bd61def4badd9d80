"""An input that is on its way into the journal, taken up before it is there.

A session that rests under a lease of this process is about to start a turn with the next input, and everything that
turn's first intent says is known as soon as the input is: its position, its time, its digest. So the driver is told of
the write when it is queued, plans on the record it will become, and queues its own write behind it; both land in one
commit where they would have been two, one after the other.

Nothing is believed for that. The driver's write names the record it builds on by its digest (`Write.follows`), which
covers all before it: when somebody was faster, or the input was refused or is an old one under its key, that record is
not there and the driver's write is refused with it. No effect leaves before both are durable.
"""

from __future__ import annotations

from remanence.core.state import Session
from remanence.events import InputReceived, Recorded, chain_digest, encode_readable, payload_digest
from remanence.spec import AgentSpec
from remanence.values import Write

__all__ = ["foreseen"]


def foreseen(s: Session, spec: AgentSpec, digest: bytes, write: Write) -> Recorded | None:
    """What `write` becomes in a session at rest whose last record has this digest, unless somebody is faster.

    None when it is more than an input, when it would not start a turn at once, or when the turn begins by recalling:
    an input is acknowledged without waiting for that.
    """
    if not digest or len(write.events) != 1 or not isinstance(write.events[0], InputReceived):
        return None
    if write.lease is not None or write.expect not in (None, s.head):
        return None
    if s.turn or s.queue or s.frozen or s.pause or s.deleted or spec.memory is not None:
        return None
    position, event = s.head + 1, write.events[0]
    try:
        own = payload_digest(encode_readable(event))
        after = chain_digest(digest, own, position=position, at=write.at, epoch=0, actor=write.actor)
    except ValueError:
        return None  # no journal can hold it: whoever sends it is told by the write itself
    return Recorded(s.id, position, write.at, 0, write.actor, event, after)
