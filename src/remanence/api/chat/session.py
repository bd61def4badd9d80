"""A conversation that is a session: which one, what it is told, and the pieces of its answer.

The answer to a request is what the turn says from there on until it rests: it ended, or it waits for calls that the
client runs. A turn that comes to wait for anybody else (an approval, a doubt, a budget, a thaw) is an error that says
so and where to answer; the turn itself goes on from there once that is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from remanence.api.auth import owned_session
from remanence.api.chat.answer import Done, Finish, Piece, ReplyPieces, Words, finish_of, likely_in
from remanence.api.chat.request import Asked
from remanence.api.named import Named
from remanence.api.once import found_before, remember
from remanence.commands import forks, given, sessions
from remanence.commands.caller import Caller, state_in, state_of
from remanence.commands.controls import hold_over
from remanence.commands.follow import follow_batches
from remanence.commands.given import Key
from remanence.commands.history import Branch, Join, asked_words, journaled, merged, reconcile
from remanence.commands.metering import AGENT, is_meter
from remanence.commands.sessions import Opening
from remanence.content import Message, Usage
from remanence.core.registry import checked, implied_allows
from remanence.core.session import fold
from remanence.core.state import CLIENT_EPOCH, Session
from remanence.errors import Conflict, Frozen, InvalidInput, ModelError, ModelErrorKind, NotFound
from remanence.events import (
    BudgetReached,
    CallJudged,
    Event,
    InputJoined,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    SessionDeleted,
    SessionFrozen,
    ToolLost,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Appended, Delta, Subscription
from remanence.spec import AgentSpec, IfBusy, Limits, spec_digest

__all__ = ["NEW", "Told", "Wanted", "answer", "tell"]

NEW = "new"
METADATA_MAX = 16
_TRIES = 8
_MAY_REST = (ToolStarted, CallJudged, QuestionAsked, BudgetReached, ToolLost, SessionFrozen)


class Told(msgspec.Struct, frozen=True):
    """A session that was told something, and where its answer begins: after `position`, in `turn` (None: in the turn
    that takes the input at `position`)."""

    session: str
    spec: AgentSpec
    position: int
    turn: int | None
    reader: Subscription
    joined: bool = False
    """Others may have begun to read this answer: what is told of it begins with what is in the journal."""
    at: int = 0
    """When it was told, in microseconds since 1970."""


class Pointer(msgspec.Struct, frozen=True):
    """What an idempotency key remembers of `Told`."""

    session: str
    position: int
    turn: int | None
    at: int = 0


class Wanted(msgspec.Struct, frozen=True):
    """Where a conversation belongs (a session's id, `new`, or None), what it does there while a turn runs, and the
    idempotency key it came under."""

    session: str | None = None
    if_busy: IfBusy | None = None
    key: Key | None = None


async def tell(caller: Caller, found: Named, asked: Asked, wanted: Wanted) -> Told:
    """Give the conversation to its session: a new one, the one that is named, or a fork of that.

    The same request again, under the same key, finds the same answer.
    """
    key = wanted.key
    _check(found, asked)
    before = await found_before(caller, key, Pointer) if key else None
    if before is not None:
        s = await owned_session(caller, before.session)
        spec, reader = await caller.database.specs.get(s.version), caller.live.subscribe(s.id)
        return Told(s.id, spec, before.position, before.turn, reader, joined=True, at=before.at)
    await _refuse_when_held(caller, found)
    told = await _tell(caller, found, asked, wanted)
    if key is not None:
        await remember(caller, key, Pointer(told.session, told.position, told.turn, told.at))
    return told


async def _tell(caller: Caller, found: Named, asked: Asked, wanted: Wanted) -> Told:
    session, key = wanted.session, wanted.key
    if session is None or session == NEW:
        spec = _spec(found, asked, AGENT)
        keyed = f"chat:{key.name}" if key else None
        opening = Opening(user=asked.user, title=_title(asked), metadata=asked.metadata, key=keyed)
        s = await _as_opened(caller, await sessions.open_session(caller, spec, opening))
        return await _say(caller, s, spec, merged(asked.messages), key)
    s = await owned_session(caller, session)
    if is_meter(s) or s.deleted:
        raise NotFound(f"There is no session {session!r}. `remanence sessions list` shows those there are.")
    spec = await _spec_in(caller, s, found, asked)
    if key is not None and (again := await given.said_under(caller, session, key)) is not None:
        return await _told_again(caller, again, spec)
    here = await journaled(caller, s, spec)
    plan = reconcile(here, asked.messages, first=1)
    if isinstance(plan, Branch):
        opening = Opening(user=s.user, title=s.title, metadata=_together(s, asked))
        made = await forks.fork(caller, session, position=plan.position, opening=opening)
        return await _say(caller, await state_of(caller, made), spec, plan.messages, key)
    if isinstance(plan, Join):
        joins = await caller.database.store.read(session, after=plan.position - 1, limit=1)
        reader = caller.live.subscribe(session)
        return Told(session, spec, plan.position, s.turns, reader, joined=True, at=joins[0].at)
    s = await _annotated(caller, s, asked)
    if plan.results:
        spoken = (Message("user", plan.parts),) if plan.parts else ()
        results = tuple(Message("tool", (result,)) for result in plan.results)
        return await _say(caller, s, spec, (*spoken, *results), key)
    await _upgraded(caller, session, spec)
    reader, busy = caller.live.subscribe(session), wanted.if_busy or spec.if_busy
    answers = _waits_for(s, spec) == "answer" and busy in ("queue", "steer")
    try:
        sent = await sessions.send(
            caller, session, plan.parts, if_busy=busy, key=given.bound(caller, key) if key else None
        )
    except BaseException:
        reader.close()
        raise
    return Told(session, spec, sent.head, s.turns if answers else None, reader, sent.replayed, sent.records[-1].at)


async def _told_again(caller: Caller, again: Appended, spec: AgentSpec) -> Told:
    """The same request was journaled just now: it is being answered, or was."""
    session = again.records[0].session
    before = await state_in(caller.database.store, session, upto=again.records[0].position - 1)
    waits = before.turn is not None and _waits_for(before, spec) == "answer"
    turn = before.turns if waits or given.calls_with_client(before) else None
    return Told(session, spec, again.head, turn, caller.live.subscribe(session), joined=True, at=again.records[-1].at)


def _together(s: Session, asked: Asked) -> dict[str, str]:
    """What the session carries along, and what the request says of that."""
    metadata = {**s.metadata, **asked.metadata}
    if len(metadata) > METADATA_MAX:
        raise InvalidInput(
            f"metadata: session {s.id} would carry {len(metadata)} values, and {METADATA_MAX} is the most. Nothing was "
            "sent.",
            param="metadata",
        )
    return metadata


async def _annotated(caller: Caller, s: Session, asked: Asked) -> Session:
    """The session, once it carries what the request says."""
    for _ in range(_TRIES):
        metadata = _together(s, asked)
        if metadata == s.metadata:
            return s
        try:
            await sessions.annotate(caller, s.id, metadata, s.face, seen=s.head)
        except Conflict:
            s = await state_of(caller, s.id)
            continue
        return await state_of(caller, s.id)
    raise Conflict(f"Session {s.id} changed {_TRIES} times meanwhile. Nothing was sent; ask again.")


async def _as_opened(caller: Caller, session: str) -> Session:
    """The session as it was opened, also when the same request under the same key went on from there."""
    s = await state_of(caller, session)
    return s if s.head == 1 else fold(Session(session), await caller.database.store.read(session, limit=1))


async def _say(
    caller: Caller, s: Session, spec: AgentSpec, messages: Sequence[Message], key: Key | None = None
) -> Told:
    """Bring messages along and have the last of them answered."""
    reader = caller.live.subscribe(s.id)
    try:
        said = await given.say(caller, s, messages, spec=spec, key=key)
    except BaseException:
        reader.close()
        raise
    turn = fold(s, said.records).turns if messages[-1].role == "tool" else None
    last = said.records[-1]
    return Told(last.session, spec, last.position, turn, reader, joined=said.replayed, at=last.at)


# --- which agent, which version ---------------------------------------------------------------------------------------


def _check(found: Named, asked: Asked) -> None:
    """An agent answers in its own way."""
    if found.agent is not None and asked.overrides:
        field = asked.overrides[0]
        raise InvalidInput(
            f"{field}: {found.name} is an agent, which brings its own instructions, tools and settings. Nothing was "
            "sent. Leave the field out, or name a model.",
            param=field,
        )


def _spec(found: Named, asked: Asked, name: str) -> AgentSpec:
    """The agent itself, or one made of what the request says about a model."""
    if found.agent is not None:
        return found.agent
    return checked(
        AgentSpec(
            name=name,
            model=asked.model,
            instructions=asked.instructions,
            tools=asked.tools,
            rules=implied_allows(asked.tools, ()),
            limits=Limits(output_tokens=asked.output_tokens, reopening="off"),
            # Whoever calls another tool in a session is told that there is none, and goes on.
            settings=replace(asked.settings, tool_choice_among=()),
        )
    )


async def _spec_in(caller: Caller, s: Session, found: Named, asked: Asked) -> AgentSpec:
    """How the session shall go on. An agent's session keeps the version it has; one of ours follows the request."""
    if found.agent is None and s.agent == AGENT:
        return _spec(found, asked, AGENT)
    if found.name == s.agent:
        return await caller.database.specs.get(s.version)
    raise InvalidInput(
        f"model: session {s.id} belongs to {_called(s)}, not to {found.name}. Nothing was sent. Name what it belongs "
        "to, or leave the header x-session-id out.",
        param="model",
    )


def _called(s: Session) -> str:
    return "a model of Chat Completions" if s.agent == AGENT else f"the agent {s.agent}"


async def _upgraded(caller: Caller, session: str, spec: AgentSpec) -> None:
    """Let the session go on as `spec`, when that is not what it does already."""
    s = await state_of(caller, session)
    if s.version != spec_digest(spec):
        await sessions.upgrade(caller, session, spec)


async def _refuse_when_held(caller: Caller, found: Named) -> None:
    """A client should not hang on a freeze that somebody may lift next week."""
    agent = found.name if found.agent is not None else AGENT
    if (hold := await hold_over(caller, agent)) is not None:
        raise Frozen(f"{hold.by} froze {hold.scope}. Nothing was sent and nothing was kept; ask again later.")


def _title(asked: Asked) -> str:
    first = next((part for part in asked.messages[0].parts if hasattr(part, "text")), None)
    return " ".join(getattr(first, "text", "").replace("\x00", " ").split())[:80]


# --- the answer -------------------------------------------------------------------------------------------------------


async def answer(caller: Caller, told: Told) -> AsyncGenerator[Piece]:
    """The pieces of what the session says from there on. Closing the generator changes nothing about the turn."""
    listener = _Listener(told)
    after = told.position - (told.turn is None)
    if told.turn is None:
        s = await state_of(caller, told.session)
        # Once it is taken from the queue it has a turn of its own; what that one waits for is told below.
        if any(queued.position == told.position for queued in s.queue):
            _at_rest(s, listener)
    reader = None if told.joined else told.reader
    if told.joined:
        told.reader.close()
    heard, may_rest = after, False
    async for batch in follow_batches(caller, told.session, after=after, reader=reader):
        for item in batch:
            if isinstance(item, Delta):
                for piece in listener.hear(item):
                    yield piece
            else:
                heard = item.position
                may_rest = may_rest or (heard >= told.position and isinstance(item.event, _MAY_REST))
                for piece in listener.take(item.event, heard) if heard >= told.position else ():
                    yield piece
            if listener.done is not None:
                yield listener.done
                return
        if may_rest:
            s = await state_of(caller, told.session)
            # The journal may be ahead of what was heard: whether it is this turn that rests, and where, is heard then.
            if s.head > heard:
                continue
            may_rest = False
            if done := _at_rest(s, listener):
                yield done
                return


def _at_rest(s: Session, listener: _Listener) -> Done | None:
    """The end, when the turn waits for the client. Raises when it waits for somebody else."""
    word = _waits_for(s, listener.spec)
    if word == "client" and listener.calls:
        return listener.end("tool_calls")
    if word == "answer" and listener.asked:
        return listener.end("stop")
    if word in ("", "client"):
        return None
    words = {
        "approval": f"waits for an approval; GET /admin/v1/approvals?session={s.id} shows it",
        "answer": "asked something; say the answer in the session",
        "doubt": f"has an effect in doubt; GET /admin/v1/doubts?session={s.id} shows it",
        "budget": f"reached the budget of {s.pause.scope if s.pause else ''}",
        "thaw": "is frozen",
    }
    raise Conflict(
        f"Session {s.id} {words[word]}. What was said is kept, and the turn goes on once that is settled; the answer "
        "will be in the session."
    )


def _waits_for(s: Session, spec: AgentSpec) -> str:
    """What the open turn waits for. A doubt that the tool itself may settle is not waited for yet."""
    if s.frozen is not None or s.pause is not None:
        return "thaw" if s.frozen is not None else "budget"
    calls = s.turn.calls if s.turn else ()
    if any(call.state == "running" and call.epoch == CLIENT_EPOCH for call in calls):
        return "client"
    for call in calls:
        tool = spec.tool(call.name)
        if call.state == "in_doubt" and not (tool and (tool.reconciles or tool.replay == "keyed")):
            return "doubt"
    states = {call.state for call in calls}
    return "approval" if "asked" in states else "answer" if "question" in states else ""


_KINDS: dict[str, ModelErrorKind] = {kind: kind for kind in get_args(ModelErrorKind)}


class _Listener:
    """Follows one turn and tells what a client of this wire format is shown of it."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.spec = told.spec
        self._turn = told.turn
        self._shown = {tool.name for tool in told.spec.tools if tool.kind == "client"}
        self._reply: ReplyPieces | None = None
        self._call = ""
        self._words = False
        self._stop, self._tier = "stop", ""
        self._refused: ModelErrorKind | None = None
        self._answered = False
        self._likely: tuple[dict[str, Any], ...] = ()
        self.calls = 0
        self.asked = False
        self.usage = Usage()
        self.done: Done | None = None

    def end(self, finish: Finish) -> Done:
        """The end of the answer."""
        asked = self.spec.settings.logprobs is not None
        return Done(finish, self.usage, self._tier, self._likely if asked else None)

    def hear(self, delta: Delta) -> Sequence[Piece]:
        if self._told.joined:
            return ()  # its beginning was told to somebody else; the reply comes whole when it is settled
        if not self._is_mine(delta.call) or delta.kind == "progress":
            return ()
        return self._current(delta.call).delta(delta.index, delta.kind, delta.text)

    def take(self, event: Event, position: int) -> Sequence[Piece]:
        match event:
            case TurnStarted(turn=turn, inputs=inputs) if self._told.position in inputs:
                self._turn = turn
            case InputJoined(turn=turn, position=joined) if joined == self._told.position:
                self._turn = turn
            case ModelReplied(call=call) if self._is_mine(call):
                return self._settle(event)
            case ModelFailed(call=call, kind=kind, retry_at=retry_at) if self._is_mine(call):
                self._refused = _KINDS.get(kind)
                if retry_at is not None and self._reply is not None:
                    self._reply.restart()
            case QuestionAsked(question=question, options=options) if self._turn is not None:
                return self._ask(asked_words(question, options))
            case TurnEnded(turn=turn) if turn == self._turn:
                self._end(event)
            case SessionDeleted():  # whoever works on the turn cancels it; there is nothing to wait for
                self._end(TurnEnded(self._turn or 0, "cancelled", "the session was deleted"))
            case _:
                pass
        return ()

    def _is_mine(self, call: str) -> bool:
        return self._turn is not None and call.startswith(f"model_{self._turn}_")

    def _current(self, call: str) -> ReplyPieces:
        if self._reply is None or self._call != call:
            step = call.removeprefix("model_")
            self._call = call
            self._reply = ReplyPieces(
                lambda place: f"call_{step}_{place}",
                lambda name: name in self._shown,
                lead="\n\n" if self._words else "",
                first=self.calls,
            )
        return self._reply

    def _settle(self, replied: ModelReplied) -> Sequence[Piece]:
        reply = self._current(replied.call)
        pieces = reply.settle(replied.parts)
        self._words, self._answered = self._words or bool(reply.text), True
        self.calls += reply.calls
        self.usage += replied.usage
        self._stop, self._tier = replied.stop, replied.service_tier
        self._likely += likely_in(replied.parts)
        self._reply = None
        return pieces

    def _ask(self, words: str) -> Sequence[Piece]:
        """A question of the agent is something it says; what the client says next answers it."""
        lead, self._words, self.asked = "\n\n" if self._words else "", True, True
        return [Words(lead + words)]

    def _end(self, ended: TurnEnded) -> None:
        if ended.status == "failed":
            refused = self._refused if not self._answered else None  # else it is no mere refusal any more
            words = f"The turn failed ({ended.reason}). The session {self._told.session} is kept."
            raise ModelError(words, kind=refused or "server")
        if ended.status == "cancelled":
            raise Conflict(f"The turn was cancelled ({ended.reason}). The journal of {self._told.session} is kept.")
        finish = finish_of(self._stop)
        self.done = self.end("stop" if finish == "tool_calls" else finish)
