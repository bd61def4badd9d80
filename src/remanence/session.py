"""A session in the hands of a program: what `Remanence.open` and `Remanence.get` return, and what a `send` comes to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol, cast

from msgspec.structs import replace

from remanence.agent import Agent
from remanence.commands import approvals, forks, sessions
from remanence.commands.caller import Caller, state_of
from remanence.commands.follow import follow, follow_batches
from remanence.commands.memory_handles import SessionMemory
from remanence.content import Part, text_of
from remanence.core import state as core
from remanence.errors import InvalidInput, TurnFailed
from remanence.events import Event, InputJoined, ModelReplied, Recorded, TurnEnded, TurnStarted
from remanence.ports import Appended, Delta, Want
from remanence.runtime.memory_index import MemoryIndex
from remanence.spec import AgentSpec, IfBusy

__all__ = ["Reply", "Runtime", "Session"]


class Runtime(Protocol):
    """What a session needs of the runtime it was opened by: `Remanence`."""

    @property
    def caller(self) -> Caller: ...
    @property
    def memory_index(self) -> MemoryIndex: ...
    async def spec_of(self, agent: Agent | AgentSpec | str) -> AgentSpec: ...

    def know(self, agent: Agent) -> None:
        """Run the functions of this agent from now on."""
        ...


class Session:
    """A handle on one session. It holds no state: everything is in the journal."""

    def __init__(self, runtime: Runtime, session: str, if_busy: IfBusy = "queue", user: str = "") -> None:
        self.id = session
        self.user = user
        self._runtime = runtime
        self._if_busy: IfBusy = if_busy

    @property
    def _caller(self) -> Caller:
        return self._runtime.caller

    @property
    def _speaker(self) -> Caller:
        """Who says something here: the session's user, when it has one."""
        return self._as(self.user) if self.user else self._caller

    def send(self, text: str | Sequence[Part], *, if_busy: IfBusy | None = None, key: str | None = None) -> Reply:
        """Say something. Iterate over the result for events, or await it for the final text; either one sends it.

        Awaited, it raises `TurnFailed` when the turn fails or is cancelled, and waits as long as the turn does: for a
        person, too. Raises `InvalidInput` for what is neither text nor parts.
        """
        return Reply(self._speaker, self.id, _parts(text), if_busy or self._if_busy, _key(key))

    async def submit(
        self, text: str | Sequence[Part], *, if_busy: IfBusy | None = None, key: str | None = None
    ) -> Appended:
        """Say something and do not wait: durable when this returns."""
        busy = if_busy or self._if_busy
        return await sessions.send(self._speaker, self.id, _parts(text), if_busy=busy, key=_key(key))

    @property
    def memory(self) -> SessionMemory:
        """What the session may see of the long-term memory."""
        return SessionMemory(self._speaker, self.id)

    async def state(self) -> core.Session:
        """The session as it stands."""
        return await state_of(self._caller, self.id)

    def events(self, *, after: int = 0) -> AsyncGenerator[Recorded | Delta]:
        """Everything after a position, for ever: the past from the journal, then what happens live."""
        return follow(self._caller, self.id, after=after)

    async def history(self, *, after: int = 0) -> Sequence[Recorded]:
        """The journal after a position, as it stands."""
        return await self._caller.database.store.read(self.id, after=after)

    async def approve(self, call: str, *, by: str, note: str = "", expires_s: float | None = None) -> Appended:
        """Approve one exact call, as `by`."""
        return await approvals.approve(self._as(by), self.id, call, note=note, expires_s=expires_s)

    async def deny(self, call: str, *, by: str, note: str = "") -> Appended:
        """Deny one exact call, as `by`; the agent reads the note."""
        return await approvals.approve(self._as(by), self.id, call, decision="deny", note=note)

    async def resolve(
        self, call: str, *, by: str, outcome: Literal["happened", "run_again", "give_up"], result: str = ""
    ) -> Appended:
        """Settle an effect in doubt, as `by`."""
        return await approvals.resolve(self._as(by), self.id, call, approvals.Resolution(outcome, result))

    async def cancel(self, *, reason: str = "") -> Appended:
        """Ask the running turn to stop."""
        return await sessions.cancel(self._caller, self.id, reason=reason)

    async def freeze(self, *, reason: str = "") -> core.Session:
        """No new effect starts in this session once this returns."""
        return await sessions.freeze(self._caller, self.id, reason=reason)

    async def thaw(self, *, reason: str = "") -> core.Session:
        """Lift the freeze."""
        return await sessions.thaw(self._caller, self.id, reason=reason)

    async def fork(self, *, turn: int | None = None, position: int | None = None) -> Session:
        """A new session with the same past up to the end of a turn, or a position (default: now)."""
        forked = await forks.fork(self._caller, self.id, turn=turn, position=position)
        return Session(self._runtime, forked, self._if_busy, self.user)

    async def upgrade(self, agent: Agent | AgentSpec | str) -> Appended:
        """Go on with another version of the agent from the next decision on."""
        if isinstance(agent, Agent):
            self._runtime.know(agent)
        return await sessions.upgrade(self._caller, self.id, await self._runtime.spec_of(agent))

    def _as(self, actor: str) -> Caller:
        return replace(self._caller, actor=actor)


def _parts(said: str | Sequence[Part]) -> str | tuple[Part, ...]:
    if isinstance(said, str):
        return said
    given: object = said
    if isinstance(given, list | tuple) and all(isinstance(part, Part) for part in cast("Sequence[object]", given)):
        return tuple(said)
    raise InvalidInput(
        f"An input is text, or a list of parts (`remanence.content`), and this is {given!r:.100}. Nothing was written.",
        param="input",
    )


def _key(key: str | None) -> str | None:
    if isinstance(cast("object", key), str | None):
        return key
    raise InvalidInput(f"An idempotency key is text, and this is {key!r:.100}. Nothing was written.", param="key")


class Reply:
    """What comes of one input: events while it is answered, the final text when awaited."""

    def __init__(
        self, caller: Caller, session: str, text: str | tuple[Part, ...], if_busy: IfBusy, key: str | None
    ) -> None:
        self._caller = caller
        self._session = session
        self._text = text
        self._if_busy: IfBusy = if_busy
        self._key = key

    def __await__(self) -> Generator[Any, None, str]:
        return self._final().__await__()

    async def _final(self) -> str:
        text = ""
        last: Recorded | Delta | None = None
        async for batch in self._batches("turns"):
            for item in batch:
                last = item
                if isinstance(item, Recorded) and isinstance(item.event, ModelReplied):
                    text = text_of(item.event.parts)
        match last.event if isinstance(last, Recorded) else None:
            case TurnEnded(turn=turn, status="failed" | "cancelled" as ended, reason=reason):
                raise TurnFailed(
                    f"Turn {turn} of session {self._session} {_ended(ended, reason)} The session is kept, and goes "
                    "on with the next input.",
                    turn=turn,
                    ended=ended,
                    cause=reason,
                    said=text,
                )
            case _:
                return text

    async def __aiter__(self) -> AsyncIterator[Recorded | Delta]:
        async for batch in self._batches("all"):
            for item in batch:
                yield item

    async def _batches(self, want: Want) -> AsyncIterator[Sequence[Recorded | Delta]]:
        caller = self._caller
        reader = caller.live.subscribe(self._session, want=want)
        try:
            appended = await sessions.send(caller, self._session, self._text, if_busy=self._if_busy, key=self._key)
        except BaseException:
            reader.close()
            raise
        position, turn = appended.head, 0
        followed = follow_batches(caller, self._session, after=position - 1, reader=reader)
        async with aclosing(followed):  # left to the collector, it would be closed by a task of its own, for each turn
            async for batch in followed:
                for number, item in enumerate(batch):
                    match item.event if isinstance(item, Recorded) else None:
                        case TurnStarted(turn=started, inputs=inputs) if position in inputs:
                            turn = started
                        case InputJoined(turn=joining, position=joined) if joined == position:
                            turn = joining
                        case TurnEnded(turn=ended) if ended == turn or await self._was_answer(position, ended):
                            yield batch[: number + 1]
                            return
                        case _:
                            pass
                yield batch

    async def _was_answer(self, position: int, ended: int) -> bool:
        """Whether the input answered a question of the turn that ended: then no turn will ever take it.

        The state is newer than that end: a later turn may have taken the input, and its records are still to come.
        """
        s = await state_of(self._caller, self._session)
        if any(queued.position == position for queued in s.queue):
            return False
        if s.turns == ended:
            return True
        records = await self._caller.database.store.read(self._session, after=position)
        return not any(_takes(record.event, position) for record in records)


def _ended(ended: str, reason: str) -> str:
    words = "failed" if ended == "failed" else "was cancelled"
    return f"{words}: {reason.removesuffix('.')}." if reason else f"{words}."


def _takes(event: Event, position: int) -> bool:
    """Whether a turn takes the input at a position."""
    match event:
        case TurnStarted(inputs=inputs):
            return position in inputs
        case InputJoined(position=joined):
            return joined == position
        case _:
            return False
