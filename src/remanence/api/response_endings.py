"""How the responses ended that this process saw ending, so that the next one is placed without a look at the journal.

A chain of responses is told to go on from its newest one, nearly always, and to the process that answered that. What it
knows then (`Endings`, and the session's state as it saw it last) says where the next input belongs. None of it is
believed: the input is journaled on the condition that the session's head is where that response ended, and when it is
not, whoever asked looks properly.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from remanence.api.response_fold import Fold
from remanence.api.response_kept import Kept
from remanence.commands.caller import Caller
from remanence.commands.given import calls_with_client
from remanence.core.state import Session

__all__ = ["Ending", "Endings"]

KNOWN_MAX = 10_000


class Ending(NamedTuple):
    """The position of the record that ended a response, the calls it left to the client, its last reply's tokens."""

    end: int
    with_client: frozenset[str]
    tokens: int


class Endings:
    """The newest endings, one such for a process. An ended response never changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Ending] = OrderedDict()

    def note(self, kept: Kept, fold: Fold) -> None:
        """Remember how a response ended, if it did."""
        if fold.done:
            tokens = fold.reply.usage.total_tokens if fold.reply is not None else 0
            self._known[kept.id] = Ending(fold.end, frozenset(fold.with_client), tokens)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def of(self, kept: Kept) -> Ending | None:
        """How a response ended, when this process saw it."""
        return self._known.get(kept.id)

    def session_after(self, caller: Caller, kept: Kept) -> Session | None:
        """The session of a response, if as far as this process knows nothing was written since it ended there.

        Only for a write that expects the head of what this answers.
        """
        ending = self._known.get(kept.id)
        s = caller.states.guess(kept.session) if caller.states is not None else None
        if ending is None or s is None or s.head != ending.end:
            return None
        if ending.with_client:
            return s if frozenset(call.call for call in calls_with_client(s)) == ending.with_client else None
        return s if s.turn is None and not s.queue else None
