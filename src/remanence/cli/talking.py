"""Saying something to a session and showing what comes of it, until the turn ends or a person is needed.

What the agent says goes to stdout as it streams; everything around it (calls, results, waits) goes to stderr, dim, so
that `remanence run support "..." > answer.txt` holds the answer and nothing else. In a chat all of it is one stream.

A session that rests is not believed at once: the records that answer it may be on their way. Only when nothing has come
for a moment does its wait count.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import msgspec

from remanence.cli.command import leave
from remanence.cli.lines import Lines, parts_words
from remanence.cli.output import clean, clock_time, dim, note, shortened, stdout
from remanence.cli.reach import Reach, Said
from remanence.cli.watching import Quiet, Rest, Watch, hold_over, rest_of
from remanence.commands.shapes import OutcomeShape, SentShape
from remanence.content import Text, text_of
from remanence.core.state import Session
from remanence.events import (
    ApprovalExpired,
    ApprovalGiven,
    CallJudged,
    InputJoined,
    InputReceived,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recorded,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Delta
from remanence.spec import IfBusy

__all__ = [
    "FINISHING",
    "INTERRUPTED",
    "Ended",
    "View",
    "detached",
    "exit_code_of",
    "outcome_of",
    "say_rest",
    "speak",
    "until_done",
]

INTERRUPTED = 130
FINISHING = "Calls that run are given time to finish (Ctrl-C again leaves at once)."
REASON_MAX = 1_000
PATIENCE = 6
"""After how many quiet moments a wait for a worker is explained."""


class Ended(msgspec.Struct, frozen=True):
    """How following ended: the turn of the input (None: it has none yet), its status, and the wait if it waits."""

    turn: int | None
    status: str
    text: str = ""
    reason: str = ""
    rest: Rest | None = None


# --- showing ----------------------------------------------------------------------------------------------------------


class View:
    """Shows one session's items as they come: the agent's words, and around them what happens."""

    def __init__(self, me: str, *, aside: TextIO | None = None) -> None:
        self._me = me
        self._aside = aside or sys.stderr
        self._lines = Lines()
        self._streamed: dict[int, str] = {}
        self._call = ""
        self._mid_line = False

    def show(self, item: Recorded | Delta) -> None:
        """Print what this item adds, if anything."""
        if isinstance(item, Delta):
            if item.kind == "text":
                self._stream(item)
            return
        self._lines.line(item)
        event = item.event
        match event:
            case ModelReplied():
                self._reply(event)
            case ModelFailed():
                self._broken()
                self.aside(f"! {self._lines.words(event)}")
            case InputReceived(user=user, parts=parts) if user != self._me:
                self.aside(f"{shortened(user, 30)}: {parts_words(parts, 400)}")
            case CallJudged(verdict="allow") | TurnEnded(status="completed"):
                pass
            case TurnEnded(status=status):
                # Whole: its last words say what to do next.
                self.aside(f"turn {status}{self._lines.ending(event, REASON_MAX)}")
            case ToolStarted():
                self.aside(f"> {self._lines.words(event)}")
            case ToolReturned():
                self.aside(f"< {self._lines.words(event)}")
            case CallJudged() | ApprovalGiven() | ApprovalExpired() | QuestionAsked() | TimerSet() | ToolLost():
                self.aside(f"  {self._lines.words(event)}")
            case ToolResolved():
                self.aside(f"  {self._lines.words(event)}")
            case _:
                pass

    def aside(self, text: str) -> None:
        """One dim line beside the conversation."""
        self._end_line()
        if self._aside is sys.stderr:
            note(dim(text, err=True))
        else:
            self._aside.write(dim(text) + "\n")
            self._aside.flush()

    def _stream(self, delta: Delta) -> None:
        if delta.call != self._call:
            self._broken()
            self._call = delta.call
        if delta.index not in self._streamed:
            self._end_line()
        self._streamed[delta.index] = self._streamed.get(delta.index, "") + delta.text
        self._write(clean(delta.text))

    def _reply(self, event: ModelReplied) -> None:
        """The reply is settled: print what did not stream, or all of it where the stream said something else."""
        streamed = self._streamed if event.call == self._call else {}
        for index, part in enumerate(event.parts):
            if not isinstance(part, Text):
                continue
            shown = streamed.get(index, "")
            if not part.text.startswith(shown):
                shown = ""
            if not shown:
                self._end_line()
            self._write(clean(part.text.removeprefix(shown)))
        self._end_line()
        self._streamed, self._call = {}, ""

    def _broken(self) -> None:
        """What streamed so far will not become a reply."""
        self._end_line()
        self._streamed, self._call = {}, ""

    def _write(self, text: str) -> None:
        if text:
            encoding = stdout().encoding or "utf-8"
            stdout().write(text.encode(encoding, "replace").decode(encoding))
            stdout().flush()
            self._mid_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._mid_line:
            self._write("\n")


# --- saying -----------------------------------------------------------------------------------------------------------


async def speak(
    reach: Reach, session: str, text: str, *, if_busy: IfBusy | None = None, key: str | None = None
) -> SentShape:
    """Say something as whoever sits at the terminal. Without `if_busy`, what the session's agent says about it."""
    return await reach.steering.send(session, Said(text, if_busy, key=key))


# --- following --------------------------------------------------------------------------------------------------------


async def until_done(watch: Watch, position: int | None, view: View | None) -> Ended:
    """Follow until the turn that takes the input at `position` ends, or a person is needed.

    Without a position: until the session is at rest. `view` shows what happens meanwhile (None: nothing).
    """
    turn = watch.state.turn.number if position is None and watch.state.turn else None
    text = ""
    quiet = 0
    async for item in watch.items():
        s = watch.state
        if isinstance(item, Quiet):
            quiet += 1
            rest = rest_of(s) or hold_over(s, await watch.reach.journals.freezes(s.project))
            if rest is not None and rest.human:
                return Ended(turn, "waiting", text, rest.sentence, rest)
            if position is None and s.turn is None and not s.queue:
                return Ended(turn, s.last_turn or "completed", text)
            if quiet == PATIENCE and view is not None:
                await _explain(watch, rest, view)
            continue
        quiet = 0
        if view is not None:
            view.show(item)
        if not isinstance(item, Recorded):
            continue
        turn = _turn_of(s, item, position) or turn
        match item.event:
            case ModelReplied(parts=parts):
                text = text_of(parts) or text
            case TurnEnded(turn=number, status=status, reason=reason) if number == turn:
                if position is not None or not s.queue:
                    return Ended(turn, status, text, reason)
            case _:
                pass
    raise AssertionError("following a session has no end of its own")


def _turn_of(s: Session, record: Recorded, position: int | None) -> int | None:
    """The turn that this record gives to the input at `position`, if it does. An answer is in its turn at once."""
    match record.event:
        case TurnStarted(turn=turn, inputs=inputs) if position is None or position in inputs:
            return turn
        case InputJoined(turn=turn, position=joined) if joined == position:
            return turn
        case InputReceived() if record.position == position:
            queued = any(waiting.position == position for waiting in s.queue)
            return s.turn.number if s.turn and not queued else None
        case _:
            return None


async def _explain(watch: Watch, rest: Rest | None, view: View) -> None:
    """Why nothing happens: a timer, or a session that another worker has, or none. A slow model explains itself."""
    s = watch.state
    step = s.turn.model if s.turn is not None else None
    if rest is None and step is not None and not step.running and (step.retry_at or 0) > time.time_ns() // 1_000:
        # Between two attempts nobody holds the session, and nobody has to.
        view.aside(f"The model is asked again at {clock_time(step.retry_at or 0)}; the input is kept.")
    elif rest is not None:
        view.aside(f"{rest.sentence} It costs nothing; leave with Ctrl-C whenever you like.")
    else:
        holder = await watch.reach.journals.holder(s.id)
        if holder.alive:
            return
        if holder.until is None:
            view.aside("No worker has taken the session yet; it stays in the journal until one does.")
        else:
            until = clock_time(holder.until)
            view.aside(f"Another worker has the session. Should it be dead, another takes over at {until}; following.")


# --- ending -----------------------------------------------------------------------------------------------------------


def outcome_of(watch: Watch, position: int, ended: Ended) -> OutcomeShape:
    """The JSON of what became of an input."""
    s = watch.state
    return OutcomeShape(
        session=s.id,
        position=position,
        turn=ended.turn,
        status=ended.status,
        text=ended.text,
        reason=ended.reason,
        waiting_on=ended.rest.word if ended.rest else "",
        commands=list(ended.rest.commands) if ended.rest else [],
        usd_micros=s.ledger.usd_micros,
        tokens=s.ledger.usage.total_tokens,
    )


def exit_code_of(ended: Ended) -> int:
    """0 when the turn is complete, 5 when it waits for somebody, 1 when it failed or was cancelled."""
    return {"completed": 0, "waiting": 5}.get(ended.status, 1)


def say_rest(rest: Rest, come_back: str) -> None:
    """What is waited for, the exact commands that answer it, and the one that comes back after that."""
    note(f"Waiting: {rest.sentence}")
    _list_commands(rest.commands)
    note("Then come back with:")
    _list_commands([come_back])


def _list_commands(commands: Sequence[str]) -> None:
    for command in commands:
        note(f"  {command}")


async def detached(reach: Reach, session: str, come_back: str) -> None:
    """After Ctrl-C: nothing is lost; say how to come back, and leave."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    said = f"goes on at {reach.url}." if reach.url else f"keeps everything. {FINISHING}"
    note(f"\nDetached; session {session} {said}\nCome back with:\n  {come_back}")
    leave(INTERRUPTED)
