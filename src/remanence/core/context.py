"""The context window: what one model call sees, as a projection of the journal.

A `Transcript` takes the records of a session in order and keeps the messages of its turns. A window is a suffix of it:
whole turns, newest first, under a token budget. Three things are deliberate:

* **Append-only prefix.** The window of the next call is the window of the last one plus what was said since, so a
  provider's prompt cache hits. When the budget is reached the window is cut once, to about half, instead of sliding.
* **No unpaired call.** Messages enter as the journal closes them, and a fork in mid-turn closes what it inherited. When
  the running turn alone is over the budget, its oldest steps (a reply and all its results) are left out whole.
* **Nothing stored twice.** A model call journals where its window starts and the digest of the exact messages; the
  prompt can be rebuilt from the records, and the digest proves it. The digest is a running hash: a call costs what was
  added since the last one, not the length of the window.

`ContextCompacted` is the seam for summaries: turns it covers leave the window and its summary leads it.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

import msgspec

from remanence.content import Message, Part, Text, ToolCall, ToolResult
from remanence.core.ledger import input_tokens_bound
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

__all__ = ["Prompt", "Transcript", "fit", "prompt_of"]

BYTES_PER_TOKEN = 4
"""The estimate the window budget uses; reservations use the bound in `core/ledger.py` instead."""

_encode = msgspec.json.Encoder().encode


class Prompt(msgspec.Struct, frozen=True):
    """The messages of one call. `digest` proves them; `input_tokens_bound` is what budgets set aside."""

    messages: tuple[Message, ...]
    window: Window
    digest: str
    input_tokens_bound: int


class TurnText:
    """The messages of one turn, and the positions it came from."""

    __slots__ = ("bytes", "from_position", "inputs", "messages", "number", "sizes")

    def __init__(self, number: int, from_position: int) -> None:
        self.number = number
        self.from_position = from_position
        self.inputs = 0
        self.messages: list[Message] = []
        self.sizes: list[int] = []
        self.bytes = 0


class Transcript:
    """What was said, turn by turn, from the first record it was given. Feed it every record, in order."""

    def __init__(self) -> None:
        self.turns: list[TurnText] = []
        self.summary: Message | None = None
        self._inputs: dict[int, tuple[Part, ...]] = {}
        self._open: dict[str, str] = {}
        self._said = (0, 0)
        """Messages and bytes ever taken."""
        self._said_at_call = (0, 0)
        self._counted = (0, 0, 0)
        """Input tokens of the last counted call, and what had been said when it left."""
        self._running: _Running | None = None
        self._fixed: tuple[AgentSpec | None, int] = (None, 0)

    def add(self, r: Recorded) -> None:
        """Take one more record."""
        match r.event:
            case InputReceived(parts=parts, answers=answers) if answers is None:
                self._inputs[r.position] = parts
            case TurnStarted(turn=number, inputs=inputs):
                self._begin(number, inputs, r.position)
            case InputJoined(position=position):
                self._say(Message("user", self._inputs.pop(position, ())))
            case ModelCalled():
                self._said_at_call = self._said
            case ModelReplied(parts=parts, usage=usage):
                self._open = {p.call: p.name for p in parts if isinstance(p, ToolCall)}
                if usage.input_tokens:
                    self._counted = (usage.input_tokens, *self._said_at_call)
                self._say(Message("assistant", parts))
            case ToolReturned(call=call, parts=parts, error=error):
                name = self._open.pop(call, None)
                if name is not None:
                    self._say(Message("tool", (ToolResult(call, name, parts, error),)))
            case SessionForked():
                self._close_open("not carried over into this fork")
                self._inputs.clear()
            case SessionUpgraded():
                self._counted = (0, 0, 0)  # another model counts otherwise
            case ContextCompacted(through_turn=through, summary=summary):
                self.turns = [turn for turn in self.turns if turn.number > through]
                self.summary = Message("user", (Text("Summary of the conversation so far:"), *summary))
                self._running = None
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

    def messages(self, window: Window) -> tuple[tuple[Message, ...], str, int]:
        """The window's messages, their digest, and their size in bytes."""
        running = self._running
        if running is None or running.window != window:
            running = self._running = _Running(window, self.summary)
        running.extend(self.turns)
        return tuple(running.messages), running.hash.hexdigest(), running.bytes

    def input_tokens_bound(self, spec: AgentSpec, size: int, messages: int) -> int:
        """An upper bound of the input tokens of a window of `messages` messages in `size` bytes."""
        tokens, said_messages, said_bytes = self._counted
        return input_tokens_bound(
            size=size + self.fixed_bytes(spec),
            messages=messages + 1,
            counted_tokens=tokens,
            size_since=self._said[1] - said_bytes,
            messages_since=self._said[0] - said_messages,
        )

    def fixed_bytes(self, spec: AgentSpec) -> int:
        """The size of what leads every prompt of this spec: its instructions and its tools."""
        if self._fixed[0] is not spec:
            tools = [(tool.name, tool.description, tool.parameters) for tool in spec.tools]
            self._fixed = (spec, len(spec.instructions.encode()) + (len(_encode(tools)) if tools else 0))
        return self._fixed[1]

    def _begin(self, number: int, inputs: tuple[int, ...], position: int) -> None:
        self._close_open("the turn ended before it was answered")
        turn = TurnText(number, min((*inputs, position)))
        self.turns.append(turn)
        for position_of_input in inputs:
            self._say(Message("user", self._inputs.pop(position_of_input, ())))
            turn.inputs += 1

    def _say(self, message: Message) -> None:
        if not self.turns:
            return  # the tail of a turn whose beginning lies before this transcript
        turn = self.turns[-1]
        size = len(_encode(message))
        turn.messages.append(message)
        turn.sizes.append(size)
        turn.bytes += size
        self._said = (self._said[0] + 1, self._said[1] + size)

    def _close_open(self, words: str) -> None:
        for call, name in self._open.items():
            self._say(Message("tool", (ToolResult(call, name, (Text(words),), error=True),)))
        self._open = {}


class _Running:
    """The messages of one window and a hash over them, extended as turns grow."""

    def __init__(self, window: Window, summary: Message | None) -> None:
        self.window = window
        self.messages: list[Message] = []
        self.hash = hashlib.sha256()
        self.bytes = 0
        self._turn = window.first_turn
        self._taken = 0
        if summary is not None:
            self._take(summary)

    def extend(self, turns: list[TurnText]) -> None:
        start = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].number <= self._turn), 0)
        for turn in turns[start:]:
            if turn.number < self.window.first_turn:
                continue
            if turn.number != self._turn:
                self._turn, self._taken = turn.number, 0
            for index in range(self._taken, len(turn.messages)):
                if not self._left_out(turn, index):
                    self._take(turn.messages[index])
            self._taken = len(turn.messages)

    def _left_out(self, turn: TurnText, index: int) -> bool:
        return turn.number == self.window.first_turn and turn.inputs <= index < turn.inputs + self.window.skipped

    def _take(self, message: Message) -> None:
        encoded = _encode(message)
        self.messages.append(message)
        self.hash.update(len(encoded).to_bytes(8, "big"))
        self.hash.update(encoded)
        self.bytes += len(encoded)


def fit(transcript: Transcript, s: Session, spec: AgentSpec) -> Window:
    """The window of the next call: today's as long as it is under the budget, else cut to about half of it."""
    limit = spec.limits.window_tokens * BYTES_PER_TOKEN
    fixed = transcript.fixed_bytes(spec)
    turns = transcript.window_of(s)
    window = _window_at(turns, s.window)
    if not turns or fixed + transcript.messages(window)[2] <= limit:
        return window
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
    messages, digest, size = transcript.messages(window)
    return Prompt(messages, window, digest, transcript.input_tokens_bound(spec, size, len(messages)))


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
        size -= sum(turn.sizes[start:following])
        skipped = following - turn.inputs
    return skipped
