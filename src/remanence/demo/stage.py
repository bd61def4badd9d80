"""How the tour speaks: headings, sentences, journal lines and claims, with time to read them.

The stage keeps every claim that was made, so that the tour can leave with a code that tells whether all of them held.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text as Styled

from remanence.content import Text, ToolCall, text_of
from remanence.demo.claims import Claim
from remanence.events import (
    ApprovalGiven,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    Event,
    InputReceived,
    MemoryKept,
    MemoryRecalled,
    ModelReplied,
    Recorded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    kind_of,
)

__all__ = ["Stage", "describe"]

WIDTH_MAX = 112
CHARACTERS_A_SECOND = 34.0
CLAIM_S = 0.6
LINE_S = 0.12


class Stage:
    """Prints to one console. `fast` leaves the pauses out."""

    def __init__(self, console: Console, *, fast: bool) -> None:
        self.console = console
        self.fast = fast
        self.claims: list[tuple[int, Claim]] = []
        self._scene = 0
        self._marks = ("✓", "✗") if console.encoding.lower().startswith("utf") else ("ok", "NO")

    @property
    def failed(self) -> list[tuple[int, Claim]]:
        """The claims that did not hold, each with the number of its scene."""
        return [(scene, claim) for scene, claim in self.claims if not claim.holds]

    async def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Styled(text, style="bold"))
        await self.pause(1.0)

    async def scene(self, number: int, title: str) -> None:
        self._scene = number
        self.console.print()
        self.console.print(Styled.assemble((f"{number}  ", "bold cyan"), (title, "bold")))
        await self.pause(0.6)

    async def say(self, text: str) -> None:
        """A sentence or two, and the time to read them."""
        self._print(Styled(text))
        await self.pause(len(text) / CHARACTERS_A_SECOND)

    async def show(self, records: Iterable[Recorded]) -> None:
        """Journal lines, those that have something to tell, and where another worker took over."""
        epoch = 0
        for record in records:
            if record.epoch > epoch > 0:
                self._print(Styled(f"----- epoch {record.epoch}: another worker", style="yellow"), indent=5)
            epoch = max(epoch, record.epoch)
            if told := describe(record.event):
                line = f"#{record.position:<4} {kind_of(record.event):<15} {told}"
                self._print(Styled(line, style="dim"), indent=5, wrap=False)
                await self.pause(LINE_S)

    async def quote(self, text: str) -> None:
        """What the agent said."""
        self._print(Styled(text, style="italic"), indent=5)
        await self.pause(len(text) / CHARACTERS_A_SECOND)

    async def command(self, line: str) -> None:
        """A line to run; never broken, so that it can be copied, and spelled so that this reader's shell finds it."""
        line = re.sub(r"(?<![\w./-])remanence(?= )", typed, line)
        self.console.print(Styled(f"     {line}", style="bold"), highlight=False, no_wrap=True, soft_wrap=True)
        await self.pause(CLAIM_S)

    async def claim(self, *claims: Claim) -> None:
        """Say what is true, and whether it is."""
        for claim in claims:
            self.claims.append((self._scene, claim))
            mark, style = (self._marks[0], "green") if claim.holds else (self._marks[1], "bold red")
            self._print(Styled.assemble((f"{mark} ", style), claim.text), hanging=len(mark) + 1)
            if not claim.holds and claim.found:
                self._print(Styled(f"found: {claim.found}", style="red"), indent=5)
            await self.pause(CLAIM_S)

    async def pause(self, seconds: float) -> None:
        if not self.fast:
            await asyncio.sleep(seconds)

    @property
    def _width(self) -> int:
        return min(self.console.width, WIDTH_MAX)

    def _print(self, text: Styled, *, indent: int = 3, hanging: int = 0, wrap: bool = True) -> None:
        width = self._width - indent
        if not wrap:
            text.truncate(width, overflow="ellipsis" if self._marks[0] == "✓" else "crop")
        for number, line in enumerate(text.wrap(self.console, width - hanging)):
            line.rstrip()
            margin = " " * (indent + (hanging if number else 0))
            self.console.print(Styled.assemble(margin, line), highlight=False, no_wrap=True, crop=False)


def typed(_: re.Match[str] | None = None) -> str:
    """How this reader calls `remanence`: after `make demo` it lies in an environment that no shell looks in."""
    own = sys.argv[0]
    return "remanence" if shutil.which("remanence") or Path(own).name != "remanence" else shlex.quote(own)


def describe(event: Event) -> str:
    """One record in a few words; nothing for those that only keep the books."""
    match event:
        case InputReceived(parts=parts):
            return f'"{_short(text_of(parts))}"'
        case TurnStarted(turn=turn):
            return f"turn {turn}"
        case ModelReplied(parts=parts):
            calls = [f"{part.name} {part.arguments}" for part in parts if isinstance(part, ToolCall)]
            said = [f'"{_short(part.text)}"' for part in parts if isinstance(part, Text)]
            return _short(", ".join(calls + said), 90)
        case CallJudged(verdict=verdict, rule=rule) if verdict != "allow":
            return f"{verdict}: {rule}"
        case ApprovalGiven(decision=decision, by=by, arguments=digest):
            return f"{decision} by {by}, for arguments {digest[:12]}..."
        case ToolStarted(tool=tool, effect_key=key, attempt=attempt):
            return f"{tool}, effect {key}" + (f", attempt {attempt}" if attempt > 1 else "")
        case ToolReturned(parts=parts):
            return _short(text_of(parts), 90)
        case ToolLost(tool=tool, reason=reason):
            return f"{tool}: {reason}"
        case _:
            return _describe_rare(event)


def _describe_rare(event: Event) -> str:
    match event:
        case ToolResolved(outcome=outcome, by=by):
            return f"{outcome}, says {by}"
        case BudgetReached(limit=limit, used=used, needed=needed):
            return f"{used} of {limit} used, next call: up to {needed}"
        case BudgetRaised(limit=limit, by=by):
            return f"to {limit}, by {by}"
        case MemoryKept(text=text):
            return f'"{_short(text)}"'
        case MemoryRecalled(items=(first, *_)):
            return f"from {first.session}#{first.position}, because of {'; '.join(first.why)}"
        case TurnEnded(status=status):
            return status
        case _:
            return ""


def _short(text: str, length: int = 70) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
