"""What a reply may call, when it was said which tools a model is to call: `tool_choice` and `parallel_tool_calls`.

Both go to the provider, and the large ones hold their models to them. Many small servers take the fields and ignore
them. What was asked for is held here then, the same for every wire format, before anything of the reply is kept:

* `parallel_tool_calls: false`: the first call stands, those after it never were. The servers that see to it themselves
  do the same.
* `tool_choice: "none"`: calls never were; what was said beside them is the reply.
* a forced choice (a function, `required`, some of the tools): calls of others never were.
* `auto` among some of the tools: the same, and the model need call none.

A reply of which nothing is left, or without the call that was forced, is a failed model call, and it is paid for as
what it was. It is not asked for again: a server that ignores a field does so each time. One that was cut short by its
limit or by a filter is told as that.

Streams show no call that may still be dropped: its pieces are held back until its name is whole, and those of a call
that does not stand are never shown.
"""

from __future__ import annotations

from msgspec.structs import replace

from remanence.content import Image, Text, ToolCall
from remanence.ports import DeltaKind, ModelReply, OnDelta
from remanence.spec import ModelSettings

__all__ = ["disobeyed", "heard", "held"]

_CUT = ("length", "content_filter")


def held(settings: ModelSettings, reply: ModelReply) -> ModelReply:
    """The reply without the calls that were not to be made."""
    names, calls_max = _names(settings), _calls_max(settings)
    calls = [(place, part.name) for place, part in enumerate(reply.parts) if isinstance(part, ToolCall)]
    standing = [place for place, name in calls if names is None or name in names][:calls_max]
    fallen = {place for place, _ in calls} - {*standing}
    if not fallen:
        return reply
    parts = tuple(part for place, part in enumerate(reply.parts) if place not in fallen)
    return replace(reply, parts=parts, stop="stop" if reply.stop == "tool_calls" and not standing else reply.stop)


def disobeyed(settings: ModelSettings, reply: ModelReply, kept: ModelReply) -> str:
    """Why a model call counts as failed, in words that go on from "the model"; empty when it does not. `kept` is what
    `held` left of the reply."""
    if kept.stop in _CUT or any(isinstance(part, ToolCall) for part in kept.parts):
        return ""
    choice = settings.tool_choice
    if choice in (None, "auto", "none"):
        says = any(isinstance(part, Image) or (isinstance(part, Text) and part.text.strip()) for part in kept.parts)
        what = "that was not allowed" if settings.tool_choice_among else "and was told to call none"
        return "" if says or kept is reply else f"called a tool {what}, and said nothing else. {_NEXT}"
    told = " or ".join(sorted(_names(settings) or ())) or "a tool"
    return f"was told to call {told}, and did not. {_NEXT}"


_NEXT = (
    "Nothing of this reply was kept, and it is not asked again. Not every model and server keeps to `tool_choice`: "
    "leave it out, or take one that does"
)


def heard(settings: ModelSettings, on_delta: OnDelta | None) -> OnDelta | None:
    """Hears a reply piece by piece and passes on what will stand."""
    names, calls_max = _names(settings), _calls_max(settings)
    if on_delta is None or (names is None and calls_max is None):
        return on_delta
    unsettled: dict[int, str] = {}
    shown: list[int] = []

    def hear(index: int, kind: DeltaKind, text: str) -> None:
        if kind == "tool_name":
            unsettled[index] = unsettled.get(index, "") + text
        elif kind == "tool_arguments":
            for known in sorted(place for place in unsettled if place <= index):
                name = unsettled.pop(known)
                if (names is None or name in names) and (calls_max is None or len(shown) < calls_max):
                    shown.append(known)
                    on_delta(known, "tool_name", name)
            if index in shown:
                on_delta(index, kind, text)
        else:
            on_delta(index, kind, text)

    return hear


def _names(settings: ModelSettings) -> frozenset[str] | None:
    """The tools that may be called; None: all."""
    match settings.tool_choice:
        case None | "auto":
            return frozenset(settings.tool_choice_among) or None
        case "none":
            return frozenset()
        case "required":
            return frozenset(settings.tool_choice_among) or None
        case name:
            return frozenset((name,))


def _calls_max(settings: ModelSettings) -> int | None:
    return 1 if settings.parallel_tool_calls is False else None
