"""How the responses ended that this process saw ending, so that the next one is placed without a look at the journal.

A chain of responses is told to go on from its newest one, nearly always, and to the process that answered that. What it
knows then (`Endings`, and the session's state as it saw it last) says what was asked there and where the next input
belongs. None of it is believed: the input is journaled on the condition that the session's head is where that response
ended, and when it is not, whoever asked looks properly. A response that is deleted moves the head of its session.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from remanence.api.responses.fold import Fold
from remanence.api.responses.kept import Kept
from remanence.commands.caller import Caller
from remanence.commands.given import calls_with_client
from remanence.core.state import Session

__all__ = ["Ending", "Endings"]

KNOWN_MAX = 10_000
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""What the requests of the newest responses may come to, as they are written."""
ONE_KEPT_BYTES_MAX = 64 * 1024


class Ending(NamedTuple):
    """The position of the record that ended a response, the calls it left to the client, its last reply's tokens; and
    the response as it is kept, while it may be the newest of a chain, with how many bytes that is."""

    end: int
    with_client: frozenset[str]
    tokens: int
    kept: Kept | None = None
    size: int = 0


class Endings:
    """The newest endings, one such for a process. An ended response never changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Ending] = OrderedDict()
        self._bytes = 0

    def note(self, kept: Kept, fold: Fold, size: int = 0) -> None:
        """Remember how a response ended, if it did. `size` is the bytes it is kept in, if that is known."""
        if not fold.done:
            return
        tokens = fold.reply.usage.total_tokens if fold.reply is not None else 0
        if not 0 < size <= ONE_KEPT_BYTES_MAX:
            size = 0
        self._drop(kept.id)
        self._known[kept.id] = Ending(fold.end, frozenset(fold.with_client), tokens, kept if size else None, size)
        self._bytes += size
        before = self._drop(kept.previous)
        if before is not None and kept.previous is not None:  # nobody guesses that a chain goes on from there
            self._known[kept.previous] = before._replace(kept=None, size=0)
        while len(self._known) > KNOWN_MAX or self._bytes > KEPT_BYTES_MAX:
            self._drop(next(iter(self._known)))

    def _drop(self, name: str | None) -> Ending | None:
        ending = self._known.pop(name, None) if name is not None else None
        if ending is not None:
            self._bytes -= ending.size
        return ending

    def of(self, kept: Kept) -> Ending | None:
        """How a response ended, when this process saw it."""
        return self._known.get(kept.id)

    def guess(self, caller: Caller, name: str) -> Kept | None:
        """The response of this id, if as far as this process knows it is there and its session has not gone on.

        Only for a write that expects the head of what `session_after` answers.
        """
        ending = self._known.get(name)
        if ending is None or ending.kept is None:
            return None
        s = self.session_after(caller, ending.kept)
        if s is None:  # it is not asked for again, and what it says may have been erased
            self._known[name] = ending._replace(kept=None, size=0)
            self._bytes -= ending.size
            return None
        return ending.kept if s.project == caller.project else None

    def session_after(self, caller: Caller, kept: Kept) -> Session | None:
        """The session of a response, if as far as this process knows nothing was written since it ended there.

        Only for a write that expects the head of what this answers.
        """
        ending = self._known.get(kept.id)
        s = caller.states.guess(kept.session) if caller.states is not None else None
        if ending is None or s is None or s.deleted or s.head != ending.end:
            return None
        if ending.with_client:
            return s if frozenset(call.call for call in calls_with_client(s)) == ending.with_client else None
        return s if s.turn is None and not s.queue else None
