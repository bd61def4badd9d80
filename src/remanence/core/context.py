"""The context window: what one model call sees, as a projection of the journal.

A `Transcript` takes the records of a session in order and keeps the messages of its turns. A window is a suffix of it:
whole turns, newest first, under a token budget. Three things are deliberate:

* **Append-only prefix.** The window of the next call is the window of the last one plus what was said since, so a
  provider's prompt cache hits. When the budget is reached the window is cut once, to about half, instead of sliding.
* **No unpaired call.** A reply enters together with the results of all its calls, once the journal has closed the last
  of them; a fork in mid-turn closes what it inherited. When the running turn alone is over the budget, its oldest steps
  (a reply and all its results) are left out whole; what people said in it stays.
* **Nothing stored twice.** A model call journals where its window starts and the digest of the exact messages; the
  prompt can be rebuilt from the records, and the digest proves it. The digest is a running hash: a call costs what was
  added since the last one, not the length of the window.

`ContextCompacted` is the seam for summaries: turns it covers leave the window and its summary leads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec

from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult
from remanence.core.ledger import (
    FILE_TOKENS_MAX,
    IMAGE_TOKENS_MAX,
    TOOL_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    input_tokens_bound,
)
from remanence.core.state import Session, Window
from remanence.events import (
    ContextCompacted,
    InputJoined,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    SessionForked,
    SessionUpgraded,
    ToolReturned,
    TurnStarted,
)
from remanence.spec import AgentSpec

__all__ = ["Content", "Prompt", "Rebuilt", "Transcript", "fit", "prompt_of", "rebuild_prompt"]

BYTES_PER_TOKEN = 4
"""The estimate the window budget uses; reservations use the bound in `core/ledger.py` instead."""
IMAGE_BYTES = 1_600 * BYTES_PER_TOKEN
"""What a picture counts for in the window budget, however large its file is."""
_UNANSWERED = "the turn ended before it was answered"

_encode = msgspec.json.Encoder().encode


class Prompt(msgspec.Struct, frozen=True):
    """The messages of one call. `digest` proves them; `input_tokens_bound` is what budgets set aside."""

    messages: tuple[Message, ...]
    window: Window
    digest: str
    input_tokens_bound: int


class Rebuilt(msgspec.Struct, frozen=True):
    """The messages of a past call. `exact` when their digest is the one that was journaled with it."""

    messages: tuple[Message, ...]
    exact: bool


class Content(NamedTuple):
    """The messages of a window: their digest, their size in bytes, and an upper bound of their tokens."""

    messages: tuple[Message, ...]
    digest: str
    size: int
    tokens_max: int


class Entry(NamedTuple):
    """A message, weighed once: its size for the window budget, an upper bound of its tokens, its digest."""

    message: Message
    size: int
    tokens_max: int
    digest: bytes


class TurnText:
    """The messages of one turn, and the position it came from."""

    __slots__ = ("bytes", "entries", "from_position", "inputs", "number")

    def __init__(self, number: int, from_position: int) -> None:
        self.number = number
        self.from_position = from_position
        self.inputs = 0
        self.entries: list[Entry] = []
        self.bytes = 0

    @property
    def messages(self) -> list[Message]:
        """What was said, in order."""
        return [entry.message for entry in self.entries]


class Transcript:
    """What was said, turn by turn, from the first record it was given. Feed it every record, in order."""

    def __init__(self) -> None:
        self.turns: list[TurnText] = []
        self.summary: Message | None = None
        self._inputs: dict[int, tuple[Part, ...]] = {}
        self._open: dict[str, str] = {}
        """The calls of the last reply that have no result yet."""
        self._step: list[Message] = []
        """That reply and the results so far: they enter together."""
        self._said = (0, 0)
        """Messages and the bound of their tokens, as far as they were ever taken."""
        self._said_at_call: tuple[int, int] | None = None
        self._counted = (0, 0, 0)
        """Input tokens of the last counted call, and what had been said when it left."""
        self._running: _Running | None = None
        self._fixed: tuple[AgentSpec | None, int] = (None, 0)

    def add(self, r: Recorded) -> None:
        """Take one more record."""
        match r.event:
            case InputReceived(parts=parts):
                self._inputs[r.position] = parts
            case TurnStarted(turn=number, inputs=inputs):
                self._begin(number, inputs, r.position)
            case InputJoined(position=position):
                self._close_open(_UNANSWERED)
                self._say(Message("user", self._inputs.pop(position, ())))
            case ModelCalled():
                self._said_at_call = self._said
            case ModelReplied(parts=parts, usage=usage):
                self._close_open(_UNANSWERED)
                if usage.input_tokens and self._said_at_call is not None:
                    self._counted = (usage.input_tokens, *self._said_at_call)
                self._open = {p.call: p.name for p in parts if isinstance(p, ToolCall)}
                self._step = [Message("assistant", parts)]
                self._enter_when_closed()
            case ToolReturned(call=call, parts=parts, error=error):
                self._result(call, parts, error=error)
                self._enter_when_closed()
            case SessionForked():
                self._close_open("not carried over into this fork")
                self._inputs.clear()
            case SessionUpgraded():
                # Another version counts otherwise, also when the reply to a call of the old one is still to come.
                self._counted, self._said_at_call = (0, 0, 0), None
            case ContextCompacted(through_turn=through, summary=summary):
                self.turns = [turn for turn in self.turns if turn.number > through]
                self.summary = Message("user", (Text("Summary of the conversation so far:"), *summary))
                self._running = None
                self._said = (self._said[0] + 1, self._said[1] + _entry(self.summary).tokens_max)
            case _:
                pass

    def window_of(self, s: Session) -> list[TurnText]:
        """The turns of the session's current window, oldest first."""
        self.forget_before(s.window.first_turn)
        return self.turns

    def forget_before(self, first_turn: int) -> None:
        """Drop turns that no later window can hold, so that memory does not grow with the session."""
        if self.turns and self.turns[0].number < first_turn:
            self.turns = [turn for turn in self.turns if turn.number >= first_turn]

    def messages(self, window: Window) -> Content:
        """What a window holds."""
        running = self._run(window)
        return Content(tuple(running.messages), running.hash.hexdigest(), running.bytes, running.tokens_max)

    def size(self, window: Window) -> int:
        """How many bytes a window holds, for its budget."""
        return self._run(window).bytes

    def _run(self, window: Window) -> _Running:
        running = self._running
        if running is None or running.window != window:
            running = self._running = _Running(window, self.summary)
        running.extend(self.turns)
        return running

    def input_tokens_bound(self, spec: AgentSpec, content: Content) -> int:
        """An upper bound of the input tokens of a call with this content."""
        tokens, said_messages, said_bound = self._counted
        overhead = TOOLS_OVERHEAD_TOKENS + TOOL_OVERHEAD_TOKENS * len(spec.tools) if spec.tools else 0
        return input_tokens_bound(
            size=content.tokens_max + self.fixed_bytes(spec) + overhead,
            messages=len(content.messages) + 1,
            counted_tokens=tokens,
            size_since=self._said[1] - said_bound,
            messages_since=self._said[0] - said_messages,
        )

    def fixed_bytes(self, spec: AgentSpec) -> int:
        """The size of what goes with every prompt of this spec: instructions, tools, the shape of the answer."""
        if self._fixed[0] is not spec:
            tools = [(tool.name, tool.description, tool.parameters) for tool in spec.tools]
            shape = spec.settings.output_schema
            size = len(spec.instructions.encode()) + (len(_encode(tools)) if tools else 0)
            self._fixed = (spec, size + (len(_encode(shape)) if shape else 0))
        return self._fixed[1]

    def _begin(self, number: int, inputs: tuple[int, ...], position: int) -> None:
        self._close_open(_UNANSWERED)
        first = min((*inputs, position))
        turn = TurnText(number, first)
        self.turns.append(turn)
        for position_of_input in inputs:
            self._say(Message("user", self._inputs.pop(position_of_input, ())))
        turn.inputs = len(turn.entries)
        # Turns take the oldest input first, so what is older still was the answer to a question.
        self._inputs = {heard: parts for heard, parts in self._inputs.items() if heard > first}

    def _say(self, message: Message) -> None:
        if not self.turns or not message.parts:
            return  # the tail of a turn whose beginning lies before this transcript, or a reply that says nothing
        turn = self.turns[-1]
        entry = _entry(message)
        turn.entries.append(entry)
        turn.bytes += entry.size
        self._said = (self._said[0] + 1, self._said[1] + entry.tokens_max)

    def _result(self, call: str, parts: tuple[Part, ...], *, error: bool) -> None:
        name = self._open.pop(call, None)
        if name is not None:
            self._step.append(Message("tool", (ToolResult(call, name, parts, error),)))

    def _enter_when_closed(self) -> None:
        if not self._open:
            for message in self._step:
                self._say(message)
            self._step = []

    def _close_open(self, words: str) -> None:
        for call in tuple(self._open):
            self._result(call, (Text(words),), error=True)
        self._enter_when_closed()


class _Running:
    """The messages of one window and a hash over them, extended as turns grow."""

    def __init__(self, window: Window, summary: Message | None) -> None:
        self.window = window
        self.messages: list[Message] = []
        self.hash = hashlib.sha256()
        self.bytes = 0
        self.tokens_max = 0
        self._turn = window.first_turn
        self._taken = 0
        if summary is not None:
            self._take(_entry(summary))

    def extend(self, turns: list[TurnText]) -> None:
        start = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].number <= self._turn), 0)
        for turn in turns[start:]:
            if turn.number < self.window.first_turn:
                continue
            if turn.number != self._turn:
                self._turn, self._taken = turn.number, 0
            for index in range(self._taken, len(turn.entries)):
                if not self._left_out(turn, index):
                    self._take(turn.entries[index])
            self._taken = len(turn.entries)

    def _left_out(self, turn: TurnText, index: int) -> bool:
        """Whether a message is one of the skipped ones, or a result of a skipped reply: a step goes whole. What people
        said to steer the turn stays."""
        skipped = self.window.skipped
        if not skipped or turn.number != self.window.first_turn or index < turn.inputs:
            return False
        role = turn.entries[index].message.role
        skips = index < turn.inputs + skipped or (role == "tool" and self._left_out(turn, index - 1))
        return skips and role != "user"

    def _take(self, entry: Entry) -> None:
        self.messages.append(entry.message)
        self.hash.update(entry.digest)
        self.bytes += entry.size
        self.tokens_max += entry.tokens_max


def _entry(message: Message) -> Entry:
    encoded = _encode(message)
    size, tokens_max = _weigh(message, encoded)
    return Entry(message, size, tokens_max, hashlib.sha256(encoded).digest())


def _weigh(message: Message, encoded: bytes) -> tuple[int, int]:
    """The size of a message for the window budget, and an upper bound of its tokens."""
    size = tokens_max = len(encoded)
    if all(isinstance(part, Text | ToolCall) for part in message.parts):
        return size, tokens_max
    for part in _media(message.parts):
        inline = len(part.data or "")
        if isinstance(part, Image):
            size += IMAGE_BYTES - inline
            tokens_max += IMAGE_TOKENS_MAX - inline
        elif not (inline and part.media_type.startswith("text/")):
            tokens_max += FILE_TOKENS_MAX - inline
    return size, tokens_max


def _media(parts: tuple[Part, ...]) -> Iterator[Image | File]:
    for part in parts:
        if isinstance(part, Image | File):
            yield part
        elif isinstance(part, ToolResult):
            yield from _media(part.parts)


def fit(transcript: Transcript, s: Session, spec: AgentSpec) -> Window:
    """The window of the next call: today's as long as it is under the budget, else cut to about half of it."""
    limit = spec.limits.window_tokens * BYTES_PER_TOKEN
    fixed = transcript.fixed_bytes(spec)
    turns = transcript.window_of(s)
    window = _window_at(turns, s.window)
    if not turns or fixed + transcript.size(window) <= limit:
        return window
    if transcript.summary is not None:
        fixed += len(_encode(transcript.summary))
    kept, first = fixed, len(turns) - 1
    for index in range(len(turns) - 1, -1, -1):
        kept += turns[index].bytes
        if kept > limit // 2 and index < len(turns) - 1:
            break
        first = index
    turn = turns[first]
    skipped = _steps_to_skip(turn, limit // 2 - fixed) if first == len(turns) - 1 else 0
    return Window(turn.number, turn.from_position, skipped)


def prompt_of(transcript: Transcript, s: Session, spec: AgentSpec) -> Prompt:
    """The prompt of the next model call."""
    window = fit(transcript, s, spec)
    content = transcript.messages(window)
    return Prompt(content.messages, window, content.digest, transcript.input_tokens_bound(spec, content))


def rebuild_prompt(records: Iterable[Recorded], called: ModelCalled) -> Rebuilt:
    """The exact messages of a past call, from the journal.

    `records` begin at `called.window_from`, or at the last `ContextCompacted` before the call when that is earlier (any
    earlier beginning will do too), and may go on after the call. The digest proves the result; it differs after a
    redaction in the window.
    """
    text = Transcript()
    for record in records:
        event = record.event
        if isinstance(event, ModelCalled) and (event.call, event.attempt) == (called.call, called.attempt):
            break
        text.add(record)
    content = text.messages(Window(called.first_turn, called.window_from, called.skipped))
    return Rebuilt(content.messages, content.digest == called.prompt)


def _window_at(turns: list[TurnText], window: Window) -> Window:
    """The same window, starting at a turn that is there (a compaction may have taken the first ones)."""
    if not turns or turns[0].number == window.first_turn:
        return window if not turns else Window(turns[0].number, turns[0].from_position, window.skipped)
    return Window(turns[0].number, turns[0].from_position)


def _steps_to_skip(turn: TurnText, limit: int) -> int:
    """How many messages after the inputs to leave out: whole steps, oldest first, keeping at least the newest."""
    starts = [i for i, message in enumerate(turn.messages) if message.role == "assistant" and i >= turn.inputs]
    size = turn.bytes
    skipped = 0
    for start, following in pairwise(starts):
        if size <= limit:
            break
        size -= sum(entry.size for entry in turn.entries[start:following] if entry.message.role != "user")
        skipped = following - turn.inputs
    return skipped
