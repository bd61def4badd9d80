"""What becomes of turns that leave the window: a summary by the session's own model, or one drawn by rule.

The model is asked in the background, before the budget is reached, with the very prefix the last calls were sent, so
that the provider's cache serves it. Its summary must hold every identifier of the covered part that the rest still
refers to; one that does not is thrown away. A window that is full before a summary is there is cut, and what leaves it
is summarised by rule: what people asked, and the names in the covered part, those that the rest refers to first. That
costs nothing, needs no model, and loses the prose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from remanence.content import Message, Part, Text, ToolCall, ToolResult, text_of
from remanence.core.context.entries import Entry, TurnText, entry_of
from remanence.core.context.fitting import clearing_helps, cut, limit_of, size_now, window_now
from remanence.core.context.reopening import reopens
from remanence.core.context.stubs import identifiers, names_in
from remanence.core.context.transcript import Content, Transcript
from remanence.core.state import Session, Window
from remanence.events import ContextCompacted
from remanence.spec import AgentSpec

__all__ = [
    "Asked",
    "ask_for_summary",
    "compaction_due",
    "cut_summary",
    "lost_identifiers",
    "summary_prompt",
    "turns_line",
]

BEGIN_SHARE: Final = 0.75
"""How full the window is when a model is asked for a summary."""
KEEP_SHARE: Final = 0.375
"""What then stays word for word, as a share of the budget."""
SUMMARY_SHARE: Final = 0.1
"""How large a summary drawn by rule may be, as a share of the budget."""
CHARS_PER_TOKEN: Final = 3
"""Of names and labels, which are denser than prose."""
FAILURES_MAX: Final = 2
KEEP_MAX: Final = 60
_ASKED_CHARS: Final = 160
_NAMES: Final = "- names: "
_AGAIN: Final = "- to read again: "


class Asked(NamedTuple):
    """A summary that is due: what it covers, what it must hold, and what is sent for it."""

    window: Window
    through_turn: int
    skipped: int
    keep: tuple[str, ...]
    content: Content


def compaction_due(transcript: Transcript, s: Session, spec: AgentSpec) -> Asked | None:
    """The summary to ask the model for now; None when none is due."""
    by_model = spec.limits.compaction == "model" or (
        spec.limits.compaction == "auto" and not spec.model.startswith("scripted")
    )
    if not by_model or s.compacting is not None or s.compactions_failed >= FAILURES_MAX or not transcript.turns:
        return None
    window = window_now(transcript, s)
    if size_now(transcript, spec, window) < limit_of(spec) * BEGIN_SHARE:
        return None
    return None if clearing_helps(transcript, spec, window) else ask_for_summary(transcript, s, spec, window)


def ask_for_summary(transcript: Transcript, s: Session, spec: AgentSpec, window: Window) -> Asked | None:
    """What to send for a summary of all but the newest part of the window; None when there is nothing to cover."""
    rest = cut(transcript, spec, window, int(limit_of(spec) * KEEP_SHARE))
    if (rest.first_turn, rest.skipped) <= (window.first_turn, window.skipped):
        return None
    keep = tuple(_in_use(transcript, s, rest))[:KEEP_MAX]
    through = rest.first_turn - 1
    content = summary_prompt(transcript, window, through, rest.skipped, keep)
    return Asked(window, through, rest.skipped, keep, content)


def summary_prompt(
    transcript: Transcript, window: Window, through_turn: int, skipped: int, keep: Sequence[str]
) -> Content:
    """The covered part as the window has it, and the request for its summary behind it."""
    covered = [turn for turn in transcript.turns if turn.number <= through_turn]
    following = next((turn for turn in transcript.turns if turn.number == through_turn + 1), None)
    if skipped and following is not None:
        covered.append(following.head(following.inputs + skipped))
    must = f" These must be in it, exactly as they are: {', '.join(keep)}." if keep else ""
    return transcript.content_of(window, covered, entry_of(Message("user", (Text(_REQUEST + must),))))


_REQUEST: Final = (
    "Summarise the conversation above for yourself: later you will be shown your summary instead of it. Say what was "
    "asked, what was decided and why, what was done and what came of it, and what is still open. Keep every name, "
    "number, address and identifier that may be needed again, exactly as it is written. Answer with the summary alone, "
    "in at most 600 words, and call no tool."
)


def lost_identifiers(transcript: Transcript, s: Session, event: ContextCompacted, text: str) -> list[str]:
    """The identifiers of the covered part that are in use now and are not in the text of a summary."""
    rest = _window_after(transcript, event.through_turn, event.skipped)
    return [name for name in _in_use(transcript, s, rest)[:KEEP_MAX] if name not in text]


def cut_summary(transcript: Transcript, s: Session, spec: AgentSpec, window: Window) -> ContextCompacted | None:
    """The summary, by rule, of what is in today's window and not in `window`; None when nothing leaves it."""
    before = window_now(transcript, s)
    if (window.first_turn, window.skipped) <= (before.first_turn, before.skipped):
        return None
    leaving = list(_leaving(transcript, window))
    used = set(_used(transcript, s, window))
    budget = int(limit_of(spec) * SUMMARY_SHARE * CHARS_PER_TOKEN)
    asked = _asked_lines(transcript, window, budget // 3)
    lines = [*asked, *_name_lines(transcript, leaving, used, budget - sum(map(_bytes, asked)))]
    if reopens(spec):
        lines.append(turns_line(window.first_turn - 1))
    parts: tuple[Part, ...] = (Text("\n".join(lines) or "(nothing that is still needed)"),)
    return ContextCompacted(window.first_turn - 1, parts, skipped=window.skipped)


def turns_line(through_turn: int) -> str:
    """How to read again what a summary stands for."""
    return f'{_AGAIN}open_result(ref="turns:1-{max(1, through_turn)}", query=...) searches what was said until then'


# --- what leaves, and what refers to it -------------------------------------------------------------------------------


def _window_after(transcript: Transcript, through_turn: int, skipped: int) -> Window:
    first = next((turn for turn in transcript.turns if turn.number > through_turn), None)
    if first is None or first.number != through_turn + 1:
        return Window(through_turn + 1)
    return Window(first.number, first.from_position, skipped)


def _leaving(transcript: Transcript, rest: Window) -> Iterable[Entry]:
    """The messages that are not in the window `rest`, oldest first. What people said in a turn that stays, stays."""
    for turn in transcript.turns:
        for index, entry in enumerate(turn.entries):
            if turn.number < rest.first_turn or (_is_skipped(turn, index, rest) and entry.message.role != "user"):
                yield entry


def _staying(transcript: Transcript, rest: Window) -> Iterable[Entry]:
    for turn in transcript.turns:
        for index, entry in enumerate(turn.entries):
            if turn.number >= rest.first_turn and not (_is_skipped(turn, index, rest) and entry.message.role != "user"):
                yield entry


def _is_skipped(turn: TurnText, index: int, rest: Window) -> bool:
    return turn.number == rest.first_turn and turn.inputs <= index < turn.inputs + rest.skipped


def _used(transcript: Transcript, s: Session, rest: Window) -> Iterable[str]:
    """The identifiers that the rest of the window, and what is in doubt, refer to; the newest first."""
    doubted = {doubt.call for doubt in s.doubts}
    for entry in reversed(list(_staying(transcript, rest))):
        yield from identifiers(_words(entry.message))
    for entry in _leaving(transcript, rest):
        for part in entry.message.parts:
            if isinstance(part, ToolCall) and part.call in doubted:
                yield from identifiers(part.arguments)


def _in_use(transcript: Transcript, s: Session, rest: Window) -> list[str]:
    """The identifiers of the part that leaves which the rest still refers to."""
    there = {name for entry in _leaving(transcript, rest) for name in identifiers(_words(entry.message))}
    if transcript.summary is not None:
        there |= set(identifiers(_words(transcript.summary.message)))
    return list(dict.fromkeys(name for name in _used(transcript, s, rest) if name in there))


def _words(message: Message) -> str:
    """The text of a message: what was said, the arguments of its calls, the results."""
    said = [text_of(message.parts)]
    for part in message.parts:
        if isinstance(part, ToolCall):
            said.append(part.arguments)
        elif isinstance(part, ToolResult):
            said.append(text_of(part.parts))
    return "\n".join(said)


# --- the summary by rule ----------------------------------------------------------------------------------------------


def _asked_lines(transcript: Transcript, rest: Window, budget: int) -> list[str]:
    """What people asked in the turns that leave, and in those that left before: the newest."""
    lines = [line for line in _summary_lines(transcript) if not line.startswith((_NAMES, _AGAIN))]
    for turn in transcript.turns:
        if turn.number < rest.first_turn:
            first = 1 if turn.recalled else 0
            said = " ".join(_words(entry.message) for entry in turn.entries[first : turn.inputs])
            if said.strip():
                lines.append(f"- turn {turn.number}, asked: {_short(said)}")
    chosen: list[str] = []
    for line in reversed(lines):
        budget -= _bytes(line)
        if budget >= 0:
            chosen.append(line)
    return chosen[::-1]


class _Named(NamedTuple):
    """A line of names: whether one of them is in use, when it was said, and the names."""

    used: bool
    at: int
    line: str
    names: frozenset[str]


def _name_lines(transcript: Transcript, leaving: Sequence[Entry], used: set[str], budget: int) -> list[str]:
    """What results, people and calls named, a line for each: first those with a name in use, then the newest; in the
    order they were said. A line whose names another one holds too is left out."""
    found: list[_Named] = []
    earlier = [line for line in _summary_lines(transcript) if line.startswith(_NAMES)]
    for at, line in enumerate(earlier, start=-len(earlier)):
        names = frozenset(identifiers(line))
        if names:
            found.append(_Named(not used.isdisjoint(names), at, line, names))
    for at, entry in enumerate(leaving):
        for text in _texts(entry.message):
            pairs = names_in(text)
            line = _NAMES + ", ".join(f"{label}={name}" if label else name for label, name in pairs)
            names = frozenset(name for _, name in pairs)
            if names:
                found.append(_Named(not used.isdisjoint(names), at, line, names))
    chosen: list[_Named] = []
    holding: dict[str, list[_Named]] = {}
    for named in sorted(found, key=lambda each: (each.used, len(each.names) > 1, each.at), reverse=True):
        others = holding.get(next(iter(named.names)), ())
        if _bytes(named.line) <= budget and not any(named.names <= other.names for other in others):
            budget -= _bytes(named.line)
            chosen.append(named)
            for name in named.names:
                holding.setdefault(name, []).append(named)
    return [named.line for named in sorted(chosen, key=lambda each: each.at)]


def _bytes(line: str) -> int:
    return len(line.encode()) + 1


def _texts(message: Message) -> list[str]:
    """The texts of a message, one by one: each is understood as JSON when it is."""
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    for part in message.parts:
        if isinstance(part, ToolCall):
            texts.append(part.arguments)
        elif isinstance(part, ToolResult):
            texts += [inner.text for inner in part.parts if isinstance(inner, Text)]
    return texts


def _summary_lines(transcript: Transcript) -> list[str]:
    if transcript.summary is None:
        return []
    return [
        line for part in transcript.summary.message.parts[1:] for line in _words(Message("user", (part,))).split("\n")
    ]


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _ASKED_CHARS else plain[: _ASKED_CHARS - 3] + "..."
