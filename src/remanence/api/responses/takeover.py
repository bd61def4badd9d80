"""Another agent than before answers: it goes on in a session of its own, which is told what was said.

A conversation that is taken over is told first and moved then, each as a whole: an input that is refused after that, or
a server that dies, leaves a conversation that goes on in the one session or in the other, with all of its past in it.
"""

from __future__ import annotations

from remanence.api.responses.history import renamed, said_before
from remanence.api.responses.talks import Talk, follow_talk
from remanence.commands import sessions
from remanence.commands.caller import Caller, state_of
from remanence.commands.given import check, keep, rests
from remanence.commands.sessions import Opening
from remanence.content import Message
from remanence.core.state import Session
from remanence.errors import Busy
from remanence.spec import AgentSpec

__all__ = ["taken_over"]


async def taken_over(
    caller: Caller, s: Session, spec: AgentSpec, opening: Opening, *, talk: Talk | None, news: tuple[Message, ...]
) -> tuple[Session, tuple[Message, ...]]:
    """The session of `spec` that goes on from `s`, and what is journaled there: `news`, after what it was not told.

    Raises Busy while something runs in `s`, InvalidInput when what was said and `news` cannot be answered: nothing is
    moved then.
    """
    if not rests(s):
        raise Busy(
            f"A turn is running that {s.agent} answers, and {spec.name} cannot go on before it has ended. "
            "Nothing was written; wait, or cancel it."
        )
    told = await said_before(caller, s.id, s.head, waiting=True, whole=talk is not None)
    news = renamed(s.id, news)
    check(caller, (*told, *news))
    moved = await state_of(caller, await sessions.open_session(caller, spec, opening))
    if talk is None:
        return moved, (*told, *news)
    if told:
        await keep(caller, moved, told, spec=spec)
    return await follow_talk(caller, talk, s, moved.id), news
