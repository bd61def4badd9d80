"""A turn as a trace: spans made from the journal, in the JSON form of the OpenTelemetry protocol.

The turn is the root span; each model call (every attempt of it) and each tool call is a span under it. Ids are digests
of what they stand for, so a trace is the same whenever it is asked for. Names and attributes follow the conventions for
generative AI.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from remanence.api.agents.history import PastTurn
from remanence.api.agents.objects import seconds, turn_id
from remanence.content import digest_of
from remanence.core.state import Session
from remanence.events import ModelCalled, ModelFailed, ModelReplied, Recorded, ToolLost, ToolReturned, ToolStarted

__all__ = ["trace_object"]

_NANOS = 1_000
_INTERNAL, _CLIENT = 1, 3
_OK, _ERROR = 1, 2

Attributes = dict[str, str | int]


def trace_object(s: Session, past: PastTurn) -> dict[str, Any]:
    """The trace of a turn."""
    facts = past.turn.facts
    own = turn_id(s.id, facts.number)
    trace = digest_of(s.id.encode(), b"%d" % facts.number)[:32]
    ended = facts.ended_at if facts.ended_at is not None else past.records[-1].at
    root = _span(trace, own, f"invoke_agent {s.agent}", (facts.started_at, ended))
    root["attributes"] = _attributes(
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": s.agent, "gen_ai.conversation.id": s.id}
    )
    root["status"] = {"code": _ERROR} if facts.status == "failed" else {"code": _OK}
    spans = [root, *_steps(trace, root["spanId"], past.records)]
    resource = {"attributes": _attributes({"service.name": "remanence", "service.version": version("remanence")})}
    scope = {"scope": {"name": "remanence"}, "spans": spans}
    return {
        "id": own,
        "object": "agent.session.trace",
        "created_at": seconds(facts.started_at),
        "session_id": s.id,
        "otlp": {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]},
    }


def _steps(trace: str, root: str, records: Sequence[Recorded]) -> list[dict[str, Any]]:
    """A span for each intent; one whose outcome is not journaled yet has no end."""
    open_: dict[str, dict[str, Any]] = {}
    spans: list[dict[str, Any]] = []
    for r in records:
        match r.event:
            case ModelCalled(call=call, attempt=attempt, model=model):
                span = _span(trace, f"{call}.{attempt}", f"chat {model}", (r.at, 0), root)
                told: Attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
            case ToolStarted(call=call, attempt=attempt, tool=tool):
                span = _span(trace, f"{call}.{attempt}", f"execute_tool {tool}", (r.at, 0), root)
                told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": call}
            case ModelReplied() | ModelFailed() | ToolReturned() | ToolLost():
                if (span := open_.pop(r.event.call, None)) is not None:
                    _end(span, r)
                continue
            case _:
                continue
        span["attributes"] = _attributes({**told, "remanence.attempt": attempt, "remanence.position": r.position})
        open_[call] = span
        spans.append(span)
    return spans


def _end(span: dict[str, Any], r: Recorded) -> None:
    span["endTimeUnixNano"] = str(r.at * _NANOS)
    span["status"] = {"code": _OK}
    match r.event:
        case ModelReplied(usage=usage):
            span["attributes"] += _attributes(
                {
                    "gen_ai.usage.input_tokens": usage.input_tokens,
                    "gen_ai.usage.output_tokens": usage.output_tokens,
                    "gen_ai.response.finish_reason": r.event.stop,
                }
            )
        case ModelFailed(kind=kind, message=message):
            span["status"] = {"code": _ERROR, "message": f"{kind}: {message}"}
        case ToolLost(reason=reason):
            span["status"] = {"code": _ERROR, "message": reason}
        case ToolReturned(error=True):
            span["status"] = {"code": _ERROR}
        case _:
            pass


def _span(trace: str, what: str, name: str, times: tuple[int, int], parent: str = "") -> dict[str, Any]:
    began, ended = times
    span: dict[str, Any] = {
        "traceId": trace,
        "spanId": digest_of(trace.encode(), what.encode())[:16],
        "name": name,
        "kind": _CLIENT if parent else _INTERNAL,
        "startTimeUnixNano": str(began * _NANOS),
    }
    if parent:
        span["parentSpanId"] = parent
    if ended:
        span["endTimeUnixNano"] = str(ended * _NANOS)
    return span


def _attributes(values: Attributes) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]
