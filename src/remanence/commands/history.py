"""A conversation as a client shows it, beside the one in the journal: what is new, and where they part.

Clients of stateless wire formats send the whole conversation each time. What is kept here is the journal; so the two
are laid beside each other message by message, by meaning: texts, pictures and files, the names and arguments of calls,
the results in the order of their calls (ids do not count: clients rename them). Neighbouring messages of the user are
one.

`Continue`: the client knows everything there is, and what it says anew is appended. `Join`: what it says is being
answered right now, because somebody retries. `Branch`: it shows another past, so the session is forked at the end of
the last turn both agree on; the journal of what was is left as it is, and what the client says happened after it is
journaled in the fork as brought along (`commands/given.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.given import GIVEN, calls_with_client
from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult, arguments_digest, text_of
from remanence.core.state import Session
from remanence.events import (
    InputJoined,
    InputReceived,
    ModelReplied,
    QuestionAsked,
    Recorded,
    ToolReturned,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec
from remanence.stores.reading import pages_of

__all__ = ["Branch", "Continue", "Join", "Journaled", "asked_words", "journaled", "merged", "reconcile"]


class Journaled(msgspec.Struct, frozen=True):
    """What a session's journal says as messages.

    `ends` gives for the end of each turn how many messages there were and its position. `calls` are those the client
    was asked to run and has not answered all of, in order; `open_calls` those of them without a result.
    """

    messages: tuple[Message, ...]
    ends: tuple[tuple[int, int], ...]
    calls: tuple[str, ...] = ()
    open_calls: tuple[str, ...] = ()
    since: int = 0
    """The position after which nothing was shown to a client yet."""
    running: bool = False

    @property
    def settled(self) -> int:
        """How many of the messages belong to turns that are over."""
        return self.ends[-1][0] if self.ends else 0


class Continue(msgspec.Struct, frozen=True):
    """What the client says anew: results for open calls (by our ids), and what the user says, if there are parts."""

    results: tuple[ToolResult, ...] = ()
    parts: tuple[Part, ...] = ()


class Join(msgspec.Struct, frozen=True):
    """Nothing: the very same is being answered now, after `position`. A client that lost its connection asks so."""

    position: int


class Branch(msgspec.Struct, frozen=True):
    """Fork at `position`, then give the fork these messages."""

    position: int
    messages: tuple[Message, ...]


# --- the journal's side -----------------------------------------------------------------------------------------------


async def journaled(caller: Caller, s: Session, spec: AgentSpec) -> Journaled:
    """The whole conversation of a session. Costs what the journal is long: so does what the client sent."""
    shown = {tool.name for tool in spec.tools if tool.kind == "client"}
    reader = _Reader(shown)
    async for records in pages_of(caller.database.store, s.id):
        for record in records:
            reader.add(record)
    return reader.made(tuple(call.call for call in calls_with_client(s)), running=s.turn is not None)


class _Reader:
    """Reads records into messages: what the server's own tools did in between is not shown, only what was said."""

    def __init__(self, shown: set[str]) -> None:
        self._shown = shown
        self._messages: list[Message] = []
        self._ends: list[tuple[int, int]] = []
        self._inputs: dict[int, tuple[Part, ...]] = {}
        self._said: list[str] = []
        self._calls: dict[str, str] = {}
        self._results: dict[str, Message] = {}
        self._asked = False
        self._joined: list[tuple[Recorded, int]] = []
        """What joined the turn while calls were open: it is heard after what they came to."""
        self._since = 0

    def add(self, record: Recorded) -> None:
        match record.event:
            case InputReceived(parts=parts):
                self._inputs[record.position] = parts
                if self._asked:
                    self._asked = False
                    self._hear(record, record.position)
            case TurnStarted(inputs=inputs):
                self._calls, self._results, self._joined = {}, {}, []
                self._hear(record, *inputs)
            case InputJoined(position=position):
                self._close()
                self._joined.append((record, position))
                self._hear_joined()
            case QuestionAsked(question=question, options=options):
                self._said.append(asked_words(question, options))
                self._close()
                self._asked = True
            case ModelReplied(call=call, parts=parts):
                self._reply(parts, given=call.startswith(f"{GIVEN}_"))
            case ToolReturned(call=call, parts=parts):
                self._return(record, call, parts)
            case TurnEnded():
                self._close()
                self._asked = False
                self._ends.append((len(self._messages), record.position))
            case _:
                pass

    def made(self, waiting: tuple[str, ...], *, running: bool) -> Journaled:
        calls = tuple(self._calls)
        return Journaled(
            tuple(self._messages),
            tuple(self._ends),
            calls,
            tuple(call for call in calls if call in waiting),
            self._since,
            running,
        )

    def _hear(self, record: Recorded, *positions: int) -> None:
        self._since = record.position
        parts = tuple(part for position in positions for part in self._inputs.pop(position, ()))
        if parts:
            self._messages.append(Message("user", parts))

    def _hear_joined(self) -> None:
        if not self._calls:
            for record, position in self._joined:
                self._hear(record, position)
            self._joined = []

    def _reply(self, parts: tuple[Part, ...], *, given: bool) -> None:
        text = text_of(tuple(part for part in parts if isinstance(part, Text) and part.text))
        if text:
            self._said.append(text)
        calls = [p for p in parts if isinstance(p, ToolCall) and (given or p.name in self._shown)]
        if calls:
            self._close(*calls)
            self._calls |= {call.call: call.name for call in calls}

    def _return(self, record: Recorded, call: str, parts: tuple[Part, ...]) -> None:
        """Results enter in the order of their calls, whichever came first."""
        if call not in self._calls:
            return
        self._results[call] = Message("tool", (ToolResult(call, self._calls[call], parts),))
        if self._results.keys() == self._calls.keys():
            self._messages += [self._results[made] for made in self._calls]
            self._calls, self._results = {}, {}
            self._since = record.position
            self._hear_joined()

    def _close(self, *calls: ToolCall) -> None:
        """One message of the assistant: what the replies since the last one said."""
        text = "\n\n".join(self._said)
        if text or calls:
            self._messages.append(Message("assistant", (*((Text(text),) if text else ()), *calls)))
        self._said = []


# --- side by side -----------------------------------------------------------------------------------------------------


def reconcile(here: Journaled, sent: Sequence[Message], *, first: int) -> Continue | Join | Branch:
    """What follows from the conversation a client sent. It ends with somebody else than the assistant.

    `first` is the position a fork without any turn is made at.
    """
    sent = merged(sent)
    new = next((i for i in range(len(sent), 0, -1) if sent[i - 1].role == "assistant"), 0)
    past, news = sent[:new], sent[new:]
    theirs, ours = _marks(past), _marks(here.messages)
    if here.running and _marks(sent) == ours:
        return Join(here.since)
    if theirs == ours and (here.open_calls or not _results(news)):
        return _continued(here, news)
    if theirs == ours[: here.settled] and here.settled < len(ours) and not here.open_calls and not _results(news):
        return _continued(here, news)  # somebody else's turn is running: the input waits, or whatever `if_busy` says
    same = next((i for i, pair in enumerate(zip(_marks(sent), ours, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(sent) - 1, len(ours)) if same is None else same
    same = min(same, len(_up_to_last_user(sent)))
    count, position = max((end for end in here.ends if end[0] <= same), default=(0, first))
    return Branch(position, tuple(sent[count:]))


def asked_words(question: str, options: Sequence[str]) -> str:
    """A question of the agent as something it said."""
    return "\n".join([question, *(f"- {option}" for option in options)])


def merged(messages: Sequence[Message]) -> list[Message]:
    """Neighbouring messages of the user as one."""
    made: list[Message] = []
    for message in messages:
        if made and made[-1].role == message.role == "user":
            made[-1] = Message("user", made[-1].parts + message.parts)
        else:
            made.append(message)
    return made


def _up_to_last_user(sent: Sequence[Message]) -> Sequence[Message]:
    last = next((i for i in range(len(sent) - 1, -1, -1) if sent[i].role == "user"), 0)
    return sent[:last]


def _continued(here: Journaled, news: Sequence[Message]) -> Continue:
    """Calls are answered in their order; clients may have given them other ids."""
    pairs = zip(here.calls, _results(news), strict=False)
    parts = tuple(part for message in news if message.role == "user" for part in message.parts)
    return Continue(tuple(replace(made, call=call) for call, made in pairs if call in here.open_calls), parts)


def _results(messages: Sequence[Message]) -> list[ToolResult]:
    return [part for message in messages for part in message.parts if isinstance(part, ToolResult)]


def _marks(messages: Sequence[Message]) -> list[object]:
    return [(message.role, *(_mark(part) for part in message.parts)) for message in messages]


def _mark(part: Part) -> object:
    match part:
        case Text(text=text):
            return text.strip()
        case ToolCall(name=name, arguments=arguments):
            return arguments_digest(name, arguments)
        case ToolResult(parts=parts):
            return text_of(parts).strip()
        case Image(url=url, data=data, blob=blob) | File(url=url, data=data, blob=blob):
            return (url, data, blob)
        case _:
            return part
