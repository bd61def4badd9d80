"""Questions whether a call may run, and their answers, among the items that a client brings.

A client that keeps the conversation itself sends back every item it was given. What became of a question says how it
is read:

* its call ran: an `mcp_call` says what came of it, and question and answer only led to that;
* it is answered after the last thing that the model said: that answer is new, and goes to the call that asked;
* it was denied before, or nobody answered it: the call was made and never ran, and the model is told so;
* it was answered with yes before, and no item says what came of it: nobody can know, so it is refused.

While one question of a reply is being answered, those of it that are not still wait.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

__all__ = ["Fate", "Questions", "asker_of", "session_asking"]

Fate = Literal["ran", "answered", "waits", "denied", "left", "lost"]

_ASKED = re.compile(r"mcpr_(.+)_call_\d+_\d+_\d+")
_RAN = re.compile(r"mcp_(.+)_(\d+_\d+)(?:r\d+)?_(\d{1,9})")
_SAID = ("reasoning", "function_call", "mcp_call")


def asker_of(question: str) -> str:
    """The session that asked a question of ours; empty for another's."""
    found = _ASKED.fullmatch(question)
    return found[1] if found else ""


def session_asking(given: Any) -> str:
    """The session whose question an input answers last, before anything of it is checked; empty without one."""
    for item in reversed(_objects(given)):
        name = item.get("approval_request_id")
        if item.get("type") == "mcp_approval_response" and isinstance(name, str):
            return asker_of(name)
    return ""


class Questions:
    """What became of the questions among some items. The items may hold anything: what is wrong is told elsewhere."""

    def __init__(self, given: Any) -> None:
        items = _objects(given)
        self.fresh_from = max((index + 1 for index, item in enumerate(items) if _said_by_model(item)), default=0)
        """Where what comes after the last thing that the model said begins."""
        asked = (index + 1 for index, item in enumerate(items) if item.get("type") == "mcp_approval_request")
        self.past_to = max(self.fresh_from, *asked, 0)
        """Where what comes after its last word or question begins: a reply may be nothing but a question."""
        calls = [item for item in items if item.get("type") == "mcp_call"]
        self._ran = {name for item in calls if not _unfinished(item) for name in _asked_by(item)}
        self._begun = {name for item in calls if _unfinished(item) for name in _asked_by(item)}
        self._said: dict[str, tuple[int, bool, str]] = {}
        for index, item in enumerate(items):
            if item.get("type") == "mcp_approval_response":
                reason = item.get("reason")
                told = (index, item.get("approve") is True, reason if isinstance(reason, str) else "")
                self._said[str(item.get("approval_request_id"))] = told
        self._answers = any(index >= self.fresh_from and name not in self._ran
                            for name, (index, _, _) in self._said.items())  # fmt: skip

    def fate(self, name: str) -> Fate:
        """What became of a question."""
        if name in self._ran:
            return "ran"
        index, approved, _ = self._said.get(name, (-1, False, ""))
        if index < 0:
            return "waits" if self._answers else "ran" if name in self._begun else "left"
        if index >= self.fresh_from:
            return "answered"
        return "lost" if approved else "denied"

    def waits(self, call: Mapping[str, Any]) -> bool:
        """Whether an `mcp_call` is shown that has not begun: its question waits, or is being answered."""
        return _unfinished(call) and any(self.fate(name) in ("waits", "answered") for name in _asked_by(call))

    def told(self, name: str) -> str:
        """What the model is told of a call that never ran."""
        _, _, reason = self._said.get(name, (-1, False, ""))
        if self.fate(name) == "left":
            return "This call was not run: nobody answered whether it may."
        return f"This call was not run: it was denied{f' ({reason})' if reason else ''}."


def _objects(given: Any) -> Sequence[Mapping[str, Any]]:
    items = cast("list[Any]", given) if isinstance(given, list) else []
    return [cast("dict[str, Any]", item) if isinstance(item, dict) else {} for item in items]


def _said_by_model(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    return kind in _SAID if kind not in (None, "message") else item.get("role") == "assistant"


def _unfinished(call: Mapping[str, Any]) -> bool:
    return call.get("status") in ("in_progress", "calling") and not (call.get("output") or call.get("error"))


def _asked_by(call: Mapping[str, Any]) -> list[str]:
    """The questions that a call had asked: the one it names, and by its own id if it is ours."""
    found = _RAN.fullmatch(str(call.get("id")))
    ours = [f"mcpr_{found[1]}_call_{found[2]}_{int(found[3]) + 1}"] if found else []
    named = call.get("approval_request_id")
    return [named, *ours] if isinstance(named, str) else ours
