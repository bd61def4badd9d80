"""Where an input goes: into which session, after what, answered by which spec.

* Alone, it opens a session.
* After the newest response of a session it is appended to that session.
* After an older one it goes into a fork at the end of that response: nothing is copied, and the fork costs the same
  wherever it is taken.
* Into a conversation it is appended, whatever is newest there.

When another agent is to answer, the conversation so far is given to a session of that agent: a session belongs to one
agent for ever. While a turn runs, an input waits, or steers, or interrupts, as `x-if-busy` says; the parameters of the
running turn cannot change under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from remanence.api.complaints import MissingParameter
from remanence.api.named import Named, Served, requested
from remanence.api.responses.answers import decided
from remanence.api.responses.endings import Endings
from remanence.api.responses.fold import Fold, Pending
from remanence.api.responses.history import renamed, said_before, told_again
from remanence.api.responses.input import Given, Spoken, read_input, refuse
from remanence.api.responses.item_references import with_items
from remanence.api.responses.items import approval_id, call_off_wire, calls_on_wire
from remanence.api.responses.kept import (
    Kept,
    Offer,
    UnknownPrevious,
    entries_of,
    find,
    fold_of,
    made_by,
    remember,
)
from remanence.api.responses.mcp import Listed, listed_by, remotes_of
from remanence.api.responses.meaning import meaning_of
from remanence.api.responses.questions import session_asking
from remanence.api.responses.request import AGENT, CountBody, Echo, ResponseBody, echo_of
from remanence.api.responses.spec import answers_for, paths_of, spec_for, spec_in
from remanence.api.responses.takeover import taken_over
from remanence.api.responses.talks import Talk, add_spoken, check_stays, find_talk, open_talk
from remanence.api.responses.ties import session_of, without_past
from remanence.api.unfit import check_pictures, check_settings
from remanence.commands import forks, sessions
from remanence.commands.caller import Caller, state_in, state_of
from remanence.commands.controls import hold_over
from remanence.commands.given import Key, bound, calls_with_client, check, said_under, say
from remanence.commands.sessions import Opening
from remanence.commands.together import together
from remanence.content import Message, ToolCall
from remanence.core.session import fold as fold_state
from remanence.core.state import CLIENT_EPOCH, Session
from remanence.errors import Busy, Conflict, Frozen, InvalidInput, NotFound
from remanence.events import InputReceived, Recorded, TurnStarted
from remanence.ports import Appended, Entry, Subscription
from remanence.spec import AgentSpec, IfBusy, spec_digest

__all__ = ["Asked", "Placed", "Submission", "ask", "history_of", "place"]

_TRIES = 8
_LOOK_RECORDS = 20


class Asked(msgspec.Struct, frozen=True):
    """A request, understood: what it says, who answers it, and what it goes on from."""

    given: Given
    spec: AgentSpec
    echo: Echo
    carried: tuple[Spoken, ...]
    previous: Kept | None = None
    talk: Talk | None = None
    listed: tuple[Listed, ...] = ()
    guessed: bool = False
    """What it goes on from was not looked up."""
    tied: str = ""
    """The session whose questions it answers, when it names nothing else to go on from."""

    @property
    def told(self) -> tuple[Offer, ...]:
        """What the servers offer, as far as this conversation was not told the same before."""
        before = (*self.given.offers, *(self.previous.servers if self.previous else ()))
        return tuple(Offer(one.label, one.offer) for one in self.listed if one.label not in before)


async def ask(
    served: Served, caller: Caller, body: ResponseBody | CountBody, *, endings: Endings | None = None
) -> Asked:
    """Read a request. Raises InvalidInput with the path of what is wrong, NotFound for a model or a conversation.

    With `endings` the response to go on from may be guessed, which is for whoever places the input.
    """
    guessed = endings.guess(caller, body.previous_response_id) if endings and body.previous_response_id else None
    previous, talk = await _before(caller, body, guessed)
    model = body.model or (previous.echo.model if previous else "")
    if not model:
        raise _missing("model", "which model is to answer? GET /v1/models lists them")
    found: Named = await requested(served, caller, model)
    alone = previous is None and talk is None
    asking = session_asking(body.input) if alone else None
    known = [name for name in (previous and previous.session, talk and talk.session, asking) if name]
    if body.input is None:
        raise _missing("input", "it is missing")
    given = read_input(await with_items(caller, body.input), lambda call: call_off_wire(known, call))
    carried = (*previous.carried, *previous.spoken) if previous else talk.heard if talk else ()
    listed = () if found.agent else await listed_by(served.shelf, body.tools or ())
    window = served.gateway.context_window(found.name) if body.truncation == "auto" and not found.agent else None
    spoken = (*carried, *given.spoken)
    if isinstance(body, ResponseBody) and not found.agent and not listed:
        spec, echo = meaning_of(body, model, found.name, spoken, context_window=window)
    else:
        spec = spec_for(body, found, spoken, listed, context_window=window)
        echo = echo_of(body if isinstance(body, ResponseBody) else ResponseBody(), model)
    await check_pictures(served, spec.model, given.messages, body.input, "input")
    if found.agent is None:
        await check_settings(served, spec.model, spec.settings, spec.tools, paths_of(body))
    tied = session_of(given) if alone and given.approvals else ""
    return Asked(given, spec, echo, carried, previous, talk, listed, guessed is not None, tied)


def _missing(path: str, why: str) -> MissingParameter:
    return MissingParameter(f"{path}: {why}. Nothing was written.", param=path)


async def _before(
    caller: Caller, body: ResponseBody | CountBody, guessed: Kept | None
) -> tuple[Kept | None, Talk | None]:
    if body.previous_response_id is not None and body.conversation is not None:
        refuse("conversation", "give either `conversation` or `previous_response_id`")
    if body.conversation is not None:
        name = body.conversation if isinstance(body.conversation, str) else body.conversation.id
        return None, await find_talk(caller, name)
    if body.previous_response_id is None:
        return None, None
    return guessed or await _previous(caller, body.previous_response_id), None


async def _previous(caller: Caller, name: str) -> Kept:
    try:
        return await find(caller, name)
    except NotFound:
        raise UnknownPrevious(f"Previous response with id '{name}' not found.", param="previous_response_id") from None


class Submission(NamedTuple):
    """How a request is to be placed: as it came, with what an input does while a turn runs, under which key; and
    whether part of its answer was `heard` before, so that it can only be one that was made."""

    body: ResponseBody
    if_busy: IfBusy
    key: Key | None = None
    heard: bool = False


class Placed(NamedTuple):
    """A response whose input is journaled. `reader` hears what follows the input, and must be closed; without one the
    journal knows it. `size` is the bytes that it is kept in, if they were counted."""

    kept: Kept
    reader: Subscription | None = None
    size: int = 0

    def close(self) -> None:
        """Nobody follows it."""
        if self.reader is not None:
            self.reader.close()


async def place(caller: Caller, asked: Asked, submission: Submission, endings: Endings) -> Placed:
    """Journal the input where it belongs, and keep the response's echo. When this returns, it will be answered.

    The same request again, under the same idempotency key, is the same response.
    """
    key = submission.key
    if key is not None and (before := await made_by(caller, key)) is not None:
        return Placed(before)
    if (again := await _journaled(caller, asked, submission)) is not None:
        return again
    if submission.heard:
        refuse("last-event-id", "nothing was asked for under this idempotency key, so nothing of it was heard")
    if asked.tied:
        asked = replace(asked, given=await without_past(caller, asked.given, asked.tied, asked.spec.name))
    for number in range(_TRIES):
        try:
            s, messages = _guessed(caller, asked, endings) if number == 0 else None, asked.given.messages
            if s is None:
                if asked.guessed and asked.previous is not None:
                    asked = replace(asked, previous=await _previous(caller, asked.previous.id), guessed=False)
                await _refuse_frozen(caller, asked)
                s, messages = await _place(caller, asked, submission)
            return await _submitted(caller, s, asked, submission, messages)
        except Frozen:
            raise
        except Conflict as error:
            if asked.talk is not None:  # it may go on elsewhere now
                asked = replace(asked, talk=await find_talk(caller, asked.talk.id))
            if (again := await _journaled(caller, asked, submission)) is not None:
                return again  # it is this very request, sent twice at once, that the session is busy with
            if isinstance(error, Busy) or asked.given.approvals:  # which were judged as often as the session moved
                raise
    raise Conflict(f"The session changed {_TRIES} times meanwhile; nothing was written. Try again.")


async def _refuse_frozen(caller: Caller, asked: Asked) -> None:
    """Before anything is opened for an input. Where nothing has to be, its own write is refused under a freeze."""
    if (hold := await hold_over(caller, asked.spec.name)) is not None:
        raise Frozen(f"{hold.scope} is frozen by {hold.by}, so nothing can be answered. Nothing was written.")


def _guessed(caller: Caller, asked: Asked, endings: Endings) -> Session | None:
    """The session an input belongs to, if this process knows without a look. A write on it must expect its head."""
    if asked.previous is None or asked.given.approvals:
        return None
    s = endings.session_after(caller, asked.previous)
    return s if s is not None and s.agent == asked.spec.name else None


async def _submitted(
    caller: Caller, s: Session, asked: Asked, submission: Submission, messages: tuple[Message, ...]
) -> Placed:
    """Journal the input, heard from before it is there, so that nothing that follows it is missed."""
    pending = await pending_in(caller, s, asked.given, every=_asks_here(asked, submission.body))
    reader = caller.live.subscribe(s.id, want="latest")
    try:
        echo = _Echo(caller, asked, submission, pending)
        appended, turn, done = await _submit(caller, s, asked, submission, messages, echo)
        kept = echo.kept if done and echo.kept else _kept(asked, submission.body, appended.records, turn, pending)
        if not done:
            await _keep(caller, asked, kept, submission.key)
        elif asked.talk is not None and asked.given.spoken:
            await add_spoken(caller, asked.talk.id, asked.given.spoken, Key(kept.id, ""))
    except BaseException:
        reader.close()
        raise
    if appended.replayed:
        reader.close()
        return Placed(kept)
    return Placed(kept, reader, echo.size)


class _Echo:
    """What is kept of a request in the write of its input, and in how many bytes."""

    def __init__(self, caller: Caller, asked: Asked, submission: Submission, pending: dict[str, Any]) -> None:
        self._caller, self._asked, self._submission, self._pending = caller, asked, submission, pending
        self.turn: int | None = None
        self.kept: Kept | None = None
        self.size = 0

    def __call__(self, records: Sequence[Recorded]) -> tuple[Entry, ...]:
        self.kept = _kept(self._asked, self._submission.body, records, self.turn, self._pending)
        entries = entries_of(self._caller, self.kept, self._submission.key)
        self.size = len(entries[0].body)
        return entries


async def _keep(caller: Caller, asked: Asked, kept: Kept, key: Key | None) -> Kept:
    await remember(caller, kept, key)
    if asked.talk is not None and asked.given.spoken:
        await add_spoken(caller, asked.talk.id, asked.given.spoken, Key(kept.id, ""))
    return kept


async def _journaled(caller: Caller, asked: Asked, submission: Submission) -> Placed | None:
    """The response that this very request made in what exists already, if it was journaled.

    Whoever journaled it may not be done, or died before anybody could learn the response's name.
    """
    key = submission.key
    session = asked.previous.session if asked.previous else asked.talk.session if asked.talk else asked.tied
    before = await said_under(caller, session, key) if key is not None and session else None
    if before is None:
        return None
    first = before.records[0]
    s = await state_in(caller.database.store, first.session, upto=first.position - 1)
    pending = await pending_in(caller, s, asked.given, every=_asks_here(asked, submission.body))
    kept = _kept(asked, submission.body, before.records, _turn_in(s, asked.given), pending)
    return Placed(await _keep(caller, asked, kept, key))


def _turn_in(s: Session, given: Given) -> int | None:
    """The turn that was open before an input was journaled, when the input goes on with it."""
    asks = s.turn is not None and any(call.state == "question" for call in s.turn.calls)
    return s.turns if asks or given.approvals or calls_with_client(s) else None


def _client_tools(asked: Asked) -> tuple[str, ...]:
    """The functions that the client runs, also those whose calls it brought along without naming them again."""
    own = [tool.name for tool in asked.spec.tools if tool.kind == "client"]
    known = {tool.name for tool in asked.spec.tools}
    return (*own, *(name for name in asked.given.functions if name not in known))


def _kept(
    asked: Asked, body: ResponseBody, records: Sequence[Recorded], turn: int | None, pending: dict[str, Any]
) -> Kept:
    first, spec = records[0], asked.spec
    kept = Kept(
        first.session,
        first.position,
        len(records),
        spec.name,
        first.at,
        asked.echo,
        turn=turn,
        client_tools=_client_tools(asked),
        background=bool(body.background),
        previous=asked.previous.id if asked.previous else None,
        conversation=asked.talk.id if asked.talk else None,
        spoken=asked.given.spoken,
        carried=asked.carried,
        remotes=dict(remotes_of(spec.tools)),
        offers=asked.told,
        servers=tuple(one.label for one in asked.listed),
        asks_here=_asks_here(asked, body),
    )
    return replace(kept, **pending) if pending else kept


def _asks_here(asked: Asked, body: ResponseBody) -> bool:
    """Whether approvals are the client's to give: of its own request they are, of an agent's calls if it says so."""
    return asked.spec.name == AGENT or answers_for(body, asked.spec.name)


async def pending_in(caller: Caller, s: Session, given: Given, *, every: bool) -> dict[str, Any]:
    """For a response that goes on where a yes is needed: the calls that wait (`every`, or the client's alone), and the
    tools of their session."""
    asks = s.turn is not None and any(call.state == "asked" for call in s.turn.calls)
    if s.turn is None or not (given.approvals or (every and asks and calls_with_client(s))):
        return {}
    spec = await caller.database.specs.get(s.version)
    said = {answer.call.removeprefix(approval_id(s.id, "")) for answer in given.approvals}
    returned = {result.call for result in given.results}
    ours = {tool.name: tool.kind for tool in spec.tools}
    pending = tuple(
        Pending(
            ToolCall(call.call, call.name, call.arguments),
            asks=call.state == "asked" and call.call not in said,
            asked=call.state == "asked",
            client=call.epoch == CLIENT_EPOCH,
        )
        for call in s.turn.calls
        if call.state != "returned" and call.call not in returned and (every or ours.get(call.name) == "client")
    )
    return {
        "pending": pending,
        "remotes": dict(remotes_of(spec.tools)),
        "client_tools": tuple(tool.name for tool in spec.tools if tool.kind == "client"),
    }


async def _place(caller: Caller, asked: Asked, submission: Submission) -> tuple[Session, tuple[Message, ...]]:
    """The session an input goes to, and what is journaled there."""
    messages, body, key = asked.given.messages, submission.body, submission.key
    opening = Opening(user=body.safety_identifier or body.user or "")
    if asked.previous is not None:
        s, before = await _after(caller, asked.previous, opening, decides=bool(asked.given.approvals))
        messages = (*before, *messages)
    elif asked.talk is not None:
        s = await open_talk(caller, asked.talk, asked.spec, opening.user)
    elif asked.tied:
        s = await state_of(caller, asked.tied)
    else:
        check(caller, messages)
        opening = replace(opening, key=f"response:{key.name}" if key else None)
        s = await state_of(caller, await sessions.open_session(caller, asked.spec, opening))
        if s.head > 1:
            # The same request was here before, or is here now: the store answers with what it wrote first.
            s = fold_state(Session(s.id), await caller.database.store.read(s.id, limit=1))
    if s.deleted:
        raise UnknownPrevious(f"Session {s.id} was removed. Nothing was written.", param="previous_response_id")
    if s.agent == asked.spec.name:
        return s, messages
    return await taken_over(caller, s, asked.spec, opening, talk=asked.talk, news=messages)


async def _after(
    caller: Caller, previous: Kept, opening: Opening, *, decides: bool = False
) -> tuple[Session, tuple[Message, ...]]:
    """The session that goes on from a response: its own when nothing came later there, else a fork at its end."""
    fold = await fold_of(caller, previous)
    s = await state_of(caller, previous.session)
    if not fold.done or decides or s.deleted:
        return s, ()
    if fold.with_client:
        if {call.call for call in calls_with_client(s)} == fold.with_client:
            return s, ()
        return await _fork_before_reply(caller, previous, fold, opening)
    if s.turn is None and not s.queue and not await _moved(caller, s, fold.end):
        return s, ()
    forked = await forks.fork(caller, previous.session, position=fold.end, opening=opening)
    return await state_of(caller, forked), ()


async def _moved(caller: Caller, s: Session, end: int) -> bool:
    """Whether anything was said after a position."""
    while end < s.head:
        records = await caller.database.store.read(s.id, after=end, limit=_LOOK_RECORDS)
        if any(isinstance(record.event, InputReceived | TurnStarted) for record in records):
            return True
        end = records[-1].position if records else s.head
    return False


async def _fork_before_reply(
    caller: Caller, previous: Kept, fold: Fold, opening: Opening
) -> tuple[Session, tuple[Message, ...]]:
    """Another set of outputs for calls that were answered already: the reply is told again in a fork before it."""
    forked = await forks.fork(caller, previous.session, position=fold.reply_at - 1, opening=opening)
    return await state_of(caller, forked), await told_again(caller, previous.session, fold)


async def _submit(
    caller: Caller, s: Session, asked: Asked, submission: Submission, messages: tuple[Message, ...], echo: _Echo
) -> tuple[Appended, int | None, bool]:
    """Journal the input: what was appended, the open turn it belongs to when it does not begin one, and whether the
    response is kept by that."""
    key = submission.key
    if asked.given.approvals:
        once = bound(caller, key) if key else None
        return await decided(caller, s, spec_in(asked.spec, s), asked.given, once), s.turns, False
    answers = bool(calls_with_client(s))
    if answers or (s.turn is None and not s.queue):
        echo.turn = s.turns if answers else None
        try:
            appended = await say(caller, s, messages, spec=spec_in(asked.spec, s), key=key, beside=echo)
        except InvalidInput as error:
            error.message = calls_on_wire(s.id, error.message)
            raise
        return appended, echo.turn, not appended.replayed
    if len(messages) != 1 or messages[0].role != "user":
        raise Busy("A turn is running, and only one message of a user can wait for it. Nothing was written.")
    if spec_digest(asked.spec) != s.version:
        raise Busy(
            "A turn is running with other parameters (model, instructions, tools, ...). Nothing was written; wait "
            "until it has ended, or cancel it."
        )
    asks = s.turn is not None and any(call.state == "question" for call in s.turn.calls)
    appended = await _say_meanwhile(caller, s.id, asked, submission)
    return appended, s.turns if asks else None, False


async def _say_meanwhile(caller: Caller, session: str, asked: Asked, submission: Submission) -> Appended:
    """Journal one message of a user where a turn runs. Raises Conflict when the turn has ended meanwhile, and the
    conversation has gone on elsewhere."""
    parts, if_busy = asked.given.messages[0].parts, submission.if_busy
    once = bound(caller, submission.key) if submission.key else None
    if asked.talk is None:
        return await sessions.send(caller, session, parts, if_busy=if_busy, key=once)
    given = InputReceived(caller.make_id("in"), parts, user=caller.actor, if_busy=if_busy)

    def check(s: Session) -> None:
        check_stays(s)
        if if_busy == "reject":
            sessions.check_idle(s)

    return await together(caller, session, lambda s, spec: sessions.said(caller, spec, given), check=check, once=once)


async def history_of(caller: Caller, asked: Asked) -> tuple[Message, ...]:
    """What was said before the input of a request. Raises InvalidInput while that is still being answered."""
    if asked.talk is not None:
        if not asked.talk.session:
            return ()
        s = await state_of(caller, asked.talk.session)
        return await said_before(caller, s.id, s.head, waiting=True)
    if asked.previous is None:
        return ()
    fold, session = await fold_of(caller, asked.previous), asked.previous.session
    if not fold.done:
        raise InvalidInput(f"{asked.previous.id} is still being answered. Wait for it.", param="previous_response_id")
    if fold.with_client:
        told, again = await said_before(caller, session, fold.reply_at - 1), await told_again(caller, session, fold)
        return (*told, *renamed(session, again))
    return await said_before(caller, session, fold.end, waiting=True)
