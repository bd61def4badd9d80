"""Recorded tool dialogues, as events: message lists in the form of the Chat Completions API.

A set is a JSON file with a list of dialogues, or a JSON Lines file with one on each line. A dialogue is a list of
messages, or an object that has one under `messages`, `traj`, `trajectory` or `conversation`. A message has a `role`
(`system`, `developer`, `user`, `assistant`, `tool`) and `content`, a text or a list of parts with `text`. One of an
`assistant` may have `tool_calls` (`id`, and `function` with `name` and `arguments`), one of a `tool` names its
call in `tool_call_id`. Everything else is passed over. The system messages become the agent's instructions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from remanence.content import Part, Text, ToolCall
from remanence.events import Event, InputReceived, ModelReplied, ToolReturned, TurnEnded, TurnStarted

__all__ = ["Dialogue", "read_dialogues", "together"]

_LISTS = ("messages", "traj", "trajectory", "conversation")


class Dialogue(NamedTuple):
    """What was said and done, with the instructions under which it was, and the names of the tools that were called."""

    instructions: str
    tools: tuple[str, ...]
    events: list[Event]


def read_dialogues(path: Path) -> list[Dialogue]:
    """The dialogues of a file. Raises ValueError, with the place, for what is none."""
    text = path.read_text(encoding="utf-8")
    found: Any = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    return [_dialogue(_messages_in(one, f"{path.name}[{number}]")) for number, one in enumerate(found)]


def together(dialogues: Sequence[Dialogue], count: int) -> Iterator[Dialogue]:
    """So many dialogues after one another as the turns of one session, as a person comes back to the same agent."""
    for start in range(0, len(dialogues), count):
        group = dialogues[start : start + count]
        tools = dict.fromkeys(name for one in group for name in one.tools)
        yield Dialogue(group[0].instructions, tuple(tools), _renumbered(group))


def _messages_in(found: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(found, dict):
        given = cast("dict[str, Any]", found)
        found = next((given[name] for name in _LISTS if isinstance(given.get(name), list)), None)
    messages = cast("list[Any]", found) if isinstance(found, list) else [None]
    if not all(isinstance(one, dict) and "role" in one for one in messages):
        raise ValueError(f"{where} is no list of messages; see the head of bench/recorded.py for the form")
    return cast("list[dict[str, Any]]", messages)


def _dialogue(messages: list[dict[str, Any]]) -> Dialogue:
    system = [_text(m.get("content")) for m in messages if m["role"] in ("system", "developer")]
    turns = _Turns()
    for message in messages:
        match message["role"]:
            case "user":
                turns.hear(_text(message.get("content")))
            case "assistant":
                turns.reply(_text(message.get("content")), message.get("tool_calls") or ())
            case "tool" | "function":
                turns.result(str(message.get("tool_call_id") or ""), _text(message.get("content")))
            case _:
                pass
    turns.end()
    return Dialogue("\n\n".join(system), tuple(turns.tools), turns.events)


class _Turns:
    """The turns of a dialogue as they grow. Calls get names of their own: those of providers come again."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.tools: dict[str, None] = {}
        self._turn = self._step = 0
        self._open: dict[str, str] = {}
        self._said = False

    def hear(self, text: str) -> None:
        """Somebody says something: a turn begins, or what was said before is gone on with."""
        if self._turn and not self._said:
            return self._join(text)
        self.end()
        self._turn, self._step, self._said = self._turn + 1, 0, False
        self.events += [InputReceived(f"in_{self._turn}", (Text(text),)), TurnStarted(self._turn, (0,))]
        return None

    def _join(self, text: str) -> None:
        heard = self.events[-2]
        assert isinstance(heard, InputReceived)
        self.events[-2] = InputReceived(heard.input, (*heard.parts, Text(text)))

    def reply(self, text: str, calls: Sequence[dict[str, Any]]) -> None:
        """The model answers, and perhaps calls."""
        if not self._turn:
            self.hear("(nothing was said before)")
        self._step, self._said, self._open = self._step + 1, True, {}
        parts: list[Part] = [Text(text)] if text else []
        for number, given in enumerate(calls, start=1):
            function = given.get("function") or {}
            call, name = f"call_{self._turn}_{self._step}_{number}", str(function.get("name") or "tool")
            self._open[str(given.get("id") or "")] = call
            self.tools[name] = None
            parts.append(ToolCall(call, name, _text(function.get("arguments")) or "{}"))
        self.events.append(ModelReplied(f"model_{self._turn}_{self._step}", tuple(parts) or (Text(""),)))

    def result(self, given: str, text: str) -> None:
        """A tool answers the call of this id, or the oldest that is open."""
        call = self._open.pop(given, None) or (self._open.pop(next(iter(self._open))) if self._open else None)
        if call is not None:
            self.events.append(ToolReturned(call, (Text(text),)))

    def end(self) -> None:
        """The turn is over."""
        if self._turn and not isinstance(self.events[-1], TurnEnded):
            self.events.append(TurnEnded(self._turn, "completed"))


def _renumbered(group: Sequence[Dialogue]) -> list[Event]:
    """The events of several dialogues with names that are each there once."""
    events: list[Event] = []
    for number, one in enumerate(group):
        for event in one.events:
            match event:
                case ModelReplied(call=call, parts=parts):
                    events.append(ModelReplied(f"{call}_{number}", tuple(_renamed(part, number) for part in parts)))
                case ToolReturned(call=call, parts=parts):
                    events.append(ToolReturned(f"{call}_{number}", parts))
                case _:
                    events.append(event)
    return events


def _renamed(part: Part, number: int) -> Part:
    return ToolCall(f"{part.call}_{number}", part.name, part.arguments) if isinstance(part, ToolCall) else part


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", one) for one in cast("list[Any]", content) if isinstance(one, dict)]
        return "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    if content is None or isinstance(content, str):
        return content or ""
    return json.dumps(content)
