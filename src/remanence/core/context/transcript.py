"""What was said, turn by turn, and the messages of a window over it.

A `Transcript` takes the records of a session in order. The messages of a window are extended as turns grow, and so is
the hash over them: a call costs what was added since the last one, not the length of the window.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from remanence.content import Message, Part, Text, ToolCall, ToolResult, digest_of, without_unsent
from remanence.core.context.entries import Entry, TurnText, encode, entry_of
from remanence.core.context.recall import Known, Place, Remembered, blocks_text, recalled_message
from remanence.core.context.stubs import shown_of, stub_of
from remanence.core.ledger import TOOL_OVERHEAD_TOKENS, TOOLS_OVERHEAD_TOKENS, input_tokens_bound
from remanence.core.state import Session, Window
from remanence.core.tokens import Family, text_tokens
from remanence.events import (
    BlocksShown,
    ContextCompacted,
    InputJoined,
    InputReceived,
    MemoryRecalled,
    ModelCalled,
    ModelReplied,
    Recalled,
    Recorded,
    SessionForked,
    SessionUpgraded,
    ToolReturned,
    TurnStarted,
)
from remanence.spec import AgentSpec

__all__ = ["Content", "Transcript"]

CALIBRATED_FROM = 500
"""A smaller prompt says little: what a provider adds to every one weighs too much in it."""
SCALE_MIN, SCALE_MAX = 0.5, 3.0
_UNANSWERED = "the turn ended before it was answered"


class Content(NamedTuple):
    """The messages of a window: their digest, their tokens as estimated, and an upper bound of these."""

    messages: tuple[Message, ...]
    digest: str
    tokens: int
    tokens_max: int


class _Fixed(NamedTuple):
    """What goes with every prompt of one spec: its size in bytes, its tokens as estimated, and its digest."""

    spec: AgentSpec | None = None
    size: int = 0
    tokens: int = 0
    digest: bytes = b""


class Transcript:
    """What was said, turn by turn, from the first record it was given. Feed it every record, in order."""

    def __init__(self, known: Known | None = None, family: Family = "cl100k", *, whole: bool = False) -> None:
        self.whole = whole
        """Whether each reply stays as it was, with what is never sent to a model: for another journal."""
        self.known: dict[Place, Remembered] = dict(known or {})
        """The texts behind the references; what is not in it when it is recalled is shown as erased."""
        self.turns: list[TurnText] = []
        self.summary: Entry | None = None
        self.covered = Window(0)
        """The turn that follows the summary, and what of its beginning the summary covers."""
        self.blocks: tuple[Recalled, ...] = ()
        self.family: Family = family
        self.scale = 1.0
        """What the provider counted for the last call, over what was estimated for it."""
        self._estimated = 0
        self._inputs: dict[int, tuple[Part, ...]] = {}
        self._open: dict[str, str] = {}
        """The calls of the last reply that have no result yet."""
        self._step: list[tuple[Message, int]] = []
        """That reply and the results so far: they enter together."""
        self._heard: list[Message] = []
        """What people said to the turn since; it enters after them."""
        self._said = (0, 0)
        """Messages and the bound of their tokens, as far as they were ever taken."""
        self._said_at_call: tuple[int, int] | None = None
        self._counted = (0, 0, 0)
        """Input tokens of the last counted call, and what had been said when it left."""
        self.cuts = False
        """Whether something was cut or summarised that could be opened again."""
        self.reopening: tuple[AgentSpec, AgentSpec] | None = None
        """A spec, and the same with the tool that opens: made once, because prompts know their spec by identity."""
        self._running: _Running | None = None
        self._fixed = _Fixed()

    def add(self, r: Recorded) -> None:
        """Take one more record."""
        match r.event:
            case InputReceived(parts=parts, shown=shown):
                self.cuts = self.cuts or shown > 0
                self._inputs[r.position] = shown_of(parts, shown, r.position) if shown else parts
            case TurnStarted(turn=number, inputs=inputs):
                self._begin(number, inputs, r.position)
            case InputJoined(position=position):
                self._heard.append(Message("user", self._inputs.pop(position, ())))
                self._enter_when_closed()
            case ModelCalled():
                self._close_open(_UNANSWERED)
                self._said_at_call = self._said
                self._estimate(r.event)
            case ModelReplied(parts=parts, usage=usage):
                if usage.input_tokens and self._said_at_call is not None:
                    self._counted = (usage.input_tokens, *self._said_at_call)
                    self._calibrate(usage.input_tokens)
                self._reply(parts if self.whole else without_unsent(parts))
                self._enter_when_closed()
            case ToolReturned(call=call, parts=parts, error=error, blob=blob):
                self.cuts = self.cuts or blob is not None
                self._result(call, parts, error=error, position=r.position)
                self._enter_when_closed()
            case SessionForked():
                self._close_open("not carried over into this fork")
                self._inputs.clear()
            case SessionUpgraded():
                # Another version counts otherwise, also when the reply to a call of the old one is still to come.
                self._counted, self._said_at_call, self.scale = (0, 0, 0), None, 1.0
            case MemoryRecalled() | BlocksShown() | ContextCompacted():
                self._shown(r.event)
            case _:
                pass

    def _estimate(self, called: ModelCalled) -> None:
        """What is estimated for a call that leaves, to be compared with what its provider counts."""
        spec, running = self._fixed.spec, self._running
        window = Window(called.first_turn, called.window_from, called.skipped, called.cleared)
        self._estimated = 0
        if spec is not None and running is not None and running.window == window:
            self._estimated = self.fixed_tokens(spec) + running.tokens

    def _calibrate(self, counted: int) -> None:
        if self._estimated >= CALIBRATED_FROM:
            self.scale = min(max(counted / self._estimated, SCALE_MIN), SCALE_MAX)

    def _shown(self, event: MemoryRecalled | BlocksShown | ContextCompacted) -> None:
        """What changes the window besides what is said in it."""
        match event:
            case MemoryRecalled(turn=number, items=items):
                message = recalled_message(items, self.known)
                turn = self.turns[-1] if self.turns else None
                if message is not None and turn is not None and turn.number == number and not turn.recalled:
                    entry = entry_of(message, family=self.family)
                    turn.remember(entry)
                    self._running = None  # the turn may have been looked at already, for its size
                    self._said = (self._said[0] + 1, self._said[1] + entry.tokens_max)
            case BlocksShown(items=items):
                self.blocks = items
                self._said = (self._said[0] + 1, self._said[1] + len(self.blocks_text().encode()))
            case ContextCompacted(through_turn=through, skipped=skipped, summary=summary):
                self.cuts = True
                self.turns = [turn for turn in self.turns if turn.number > through]
                self.summary = entry_of(Message("user", (Text("Summary of the conversation so far:"), *summary)))
                self.covered = Window(through + 1, skipped=skipped)
                self._running = None
                self._said = (self._said[0] + 1, self._said[1] + self.summary.tokens_max)

    def know(self, known: Known) -> None:
        """Texts behind references that are about to be taken in."""
        self.known.update(known)

    def blocks_text(self) -> str:
        """The memory blocks in view."""
        return blocks_text(self.blocks, self.known)

    def waiting(self) -> tuple[Message, ...]:
        """What is in no window yet: a reply with open calls, what others of it came to, what was said since."""
        return (*(message for message, _ in self._step), *self._heard)

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
        return Content(tuple(running.messages), running.hash.hexdigest(), running.tokens, running.tokens_max)

    def content_of(self, window: Window, turns: list[TurnText], last: Entry) -> Content:
        """What a window would hold if it ended with these turns and `last`."""
        running = _Running(window, self.summary)
        running.extend(turns)
        running.take(last)
        return Content(tuple(running.messages), running.hash.hexdigest(), running.tokens, running.tokens_max)

    def tokens(self, window: Window) -> int:
        """How many tokens a window holds, as estimated."""
        return self._run(window).tokens

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
        """The size of what goes with every prompt of this spec: instructions, blocks, tools, the answer's shape."""
        return self._fixed_of(spec).size + (len(self.blocks_text().encode()) if self.blocks else 0)

    def fixed_tokens(self, spec: AgentSpec) -> int:
        """The tokens of what goes with every prompt of this spec, as estimated."""
        blocks = round(text_tokens(self.blocks_text(), self.family)) if self.blocks else 0
        return self._fixed_of(spec).tokens + blocks

    def sent_digest(self, spec: AgentSpec, digest: str) -> str:
        """The digest of everything that is sent: `digest` is that of the messages."""
        blocks = self.blocks_text().encode() if self.blocks else b""
        return digest_of(self._fixed_of(spec).digest, blocks, bytes.fromhex(digest))

    def _fixed_of(self, spec: AgentSpec) -> _Fixed:
        if self._fixed.spec is not spec:
            tools = [(tool.name, tool.description, tool.parameters) for tool in spec.tools]
            shape = spec.settings.output_schema
            size = len(spec.instructions.encode()) + (len(encode(tools)) if tools else 0)
            sent = (spec.model, spec.instructions, spec.tools, spec.settings, spec.limits.output_tokens)
            tokens = text_tokens(spec.instructions, self.family)
            tokens += text_tokens(encode(tools).decode(), self.family) if tools else 0
            tokens += text_tokens(encode(shape).decode(), self.family) if shape else 0
            digest = bytes.fromhex(digest_of(msgspec.json.encode(sent, order="sorted")))
            self._fixed = _Fixed(spec, size + (len(encode(shape)) if shape else 0), round(tokens), digest)
        return self._fixed

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

    def _say(self, message: Message, position: int = 0) -> None:
        if not self.turns or not message.parts:
            return  # the tail of a turn whose beginning lies before this transcript, or a reply that says nothing
        entry = entry_of(message, position, self.family)
        self.turns[-1].say(entry)
        self._said = (self._said[0] + 1, self._said[1] + entry.tokens_max)

    def _reply(self, parts: tuple[Part, ...]) -> None:
        """A reply; one that was brought along while calls are open is one step with theirs."""
        calls = {part.call: part.name for part in parts if isinstance(part, ToolCall)}
        if calls.keys() & self._open.keys():
            self._close_open(_UNANSWERED)  # one result cannot answer two calls
        step = self._step if self._open else []
        self._open |= calls
        if step and self.whole:  # each as it was
            self._step = [*step, (Message("assistant", parts), 0)]
            return
        before = step[0][0].parts if step else ()
        self._step = [(Message("assistant", (*before, *parts)), 0), *step[1:]]

    def _result(self, call: str, parts: tuple[Part, ...], *, error: bool, position: int = 0) -> None:
        name = self._open.pop(call, None)
        if name is not None:
            self._step.append((Message("tool", (ToolResult(call, name, parts, error),)), position))

    def _enter_when_closed(self) -> None:
        if not self._open:
            for message, position in self._step:
                self._say(message, position)
            for message in self._heard:
                self._say(message)
            self._step, self._heard = [], []

    def _close_open(self, words: str) -> None:
        for call in tuple(self._open):
            self._result(call, (Text(words),), error=True)
        self._enter_when_closed()


class _Running:
    """The messages of one window and a hash over them, extended as turns grow."""

    def __init__(self, window: Window, summary: Entry | None) -> None:
        self.window = window
        self.messages: list[Message] = []
        self.hash = hashlib.sha256()
        self.tokens = 0
        self.tokens_max = 0
        self._turn = window.first_turn
        self._taken = 0
        if summary is not None:
            self.take(summary)

    def extend(self, turns: list[TurnText]) -> None:
        start = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].number <= self._turn), 0)
        for turn in turns[start:]:
            if turn.number < self.window.first_turn:
                continue
            if turn.number != self._turn:
                self._turn, self._taken = turn.number, 0
            for index in range(self._taken, len(turn.entries)):
                if not self._left_out(turn, index):
                    self.take(stub_of(turn.entries[index], self.window.cleared))
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

    def take(self, entry: Entry) -> None:
        self.messages.append(entry.message)
        self.hash.update(entry.digest)
        self.tokens += entry.tokens
        self.tokens_max += entry.tokens_max
