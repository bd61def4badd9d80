"""What must be true after a load run, of every session: the figures that have to be zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from remanence.content import text_of
from remanence.events import InputReceived, ModelReplied, Recorded, ToolReturned, TurnEnded
from remanence.ports import Database
from remanence.stores.verify import verify_session
from remanence.testing.load.person import Person
from remanence.testing.load.responder import Responder

__all__ = ["Figures", "check"]

KEPT = ("sessions", "turns", "kills", "restarts", "requests", "sent_again", "turned_away", "reconnects", "seconds")


class Figures(msgspec.Struct):
    """Sums over a run. What is not in `KEPT` has to be 0."""

    sessions: int = 0
    turns: int = 0
    kills: int = 0
    restarts: int = 0
    requests: int = 0
    sent_again: int = 0
    turned_away: int = 0
    reconnects: int = 0
    seconds: float = 0.0
    wedged: int = 0
    """Sessions that were not done in time."""
    lost: int = 0
    """Inputs, results and replies that a session should hold and does not."""
    twice: int = 0
    """Those it holds more than once."""
    repeated_events: int = 0
    """Settled events that a stream told twice."""
    streams_differ: int = 0
    """Streams that came, over all their cuts, to something else than one from the beginning."""
    broken_journals: int = 0
    server_errors: int = 0

    @property
    def failures(self) -> int:
        """The sum of what has to be 0."""
        return sum(getattr(self, name) for name in self.__struct_fields__ if name not in KEPT)


async def check(
    figures: Figures, database: Database, person: Person | Responder, turns: int, *, finished: bool
) -> None:
    """Add one person's session to the figures."""
    figures.sessions += 1
    for name in ("requests", "sent_again", "turned_away", "reconnects", "repeated_events", "server_errors"):
        setattr(figures, name, getattr(figures, name) + getattr(person.told, name))
    figures.turns += person.turns_done
    figures.wedged += not finished
    if not person.session:
        return
    records = await database.store.read(person.session)
    figures.broken_journals += bool((await verify_session(database, person.session)).flaws)
    if not finished:
        return
    _count(figures, records, person, turns)
    figures.streams_differ += not await person.is_same(turns)


def _count(figures: Figures, records: Sequence[Recorded], person: Person | Responder, turns: int) -> None:
    """Every turn has one input, one result of the function and one answer that says what the function saw."""
    held: Counter[str] = Counter()
    for r in records:
        match r.event:
            case InputReceived(parts=parts):
                held[f"said {text_of(parts)}"] += 1
            case ToolReturned(parts=parts):
                held[f"result {text_of(parts)}"] += 1
            case ModelReplied(parts=parts):
                held[f"reply {text_of(parts)}"] += 1
            case TurnEnded(status=status):
                held[f"ended {status}"] += 1
            case _:
                pass
    owed: Counter[str] = Counter({"ended completed": turns})
    for said in map(person.said, range(1, turns + 1)):
        owed[f"said {said}"] += 1
        owed[f"result seen-{said}"] += 1
        owed[f"reply Looking at {said}."] += 1
        owed[f"reply Of {said} we know: seen-{said}. That is all there is to say."] += 1
    figures.lost += (owed - held).total()
    figures.twice += (held - owed).total()
