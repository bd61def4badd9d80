"""Sessions, turns and items in the shapes of the Agents API. Pure: from the folded state to what is shown.

How our states read there:

* A session is `idle` when no turn is open and nothing waits for one, `requires_action` when a person or the client
  must do something first, `budget_reached` when it paused at a limit, else `in_progress`. It is never `failed`: a
  failed turn leaves a session that takes the next input.
* A call that waits for approval is an `mcp_approval_request`, whatever tool it is of: the wire format has no other word
  for it. Its id is the call's; its server is `remanence` unless the tool is an MCP server's. So is an effect in doubt,
  under the id `doubt_CALL`: it can be given up there (`deny`); what else can be said of it is said under `/admin/v1`.
* A call that the client runs is a `function_call`; so is a question that the agent asks a person (`ask_human`).
* A frozen session with something to do is `requires_action` without a listed action: it waits for the thaw.

Ids are made of the session's id and numbers in its journal, so nothing has to be stored for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from remanence.api.agents.config import config_of
from remanence.api.responses.mcp import Remotes, remotes_of
from remanence.commands.controls import LIMIT_END
from remanence.content import Image, Part, Text, Usage, parse_arguments
from remanence.core.state import CLIENT_EPOCH, Call, Session, turn_waits_on, waiting_on
from remanence.errors import ModelErrorKind
from remanence.ports import Budget
from remanence.spec import AgentSpec

__all__ = [
    "MICROS_PER_CENT",
    "UNLIMITED",
    "TurnFacts",
    "arguments_of",
    "input_contents",
    "output_of",
    "required_actions",
    "seconds",
    "session_object",
    "session_status",
    "tail_of",
    "token_usage",
    "turn_error",
    "turn_id",
    "turn_object",
]

MICROS_PER_CENT = 10_000
UNLIMITED = LIMIT_END - 1
"""The limit of a budget that was lifted: its use is still counted."""
_MICROS = 1_000_000


def seconds(at: int) -> int:
    """Microseconds as whole seconds."""
    return at // _MICROS


def tail_of(session: str) -> str:
    """The part of a session's id that stands in the ids of what belongs to it."""
    return session.removeprefix("sess_")


def turn_id(session: str, number: int) -> str:
    """The id of a turn."""
    return f"turn_{tail_of(session)}_{number}"


def token_usage(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


# --- sessions ---------------------------------------------------------------------------------------------------------


def session_status(s: Session) -> str:
    """The status, in the API's words."""
    if s.pause is not None:
        return "budget_reached"
    if s.turn is None and not s.queue:
        return "idle" if not s.doubts else "requires_action"
    waits = waiting_on(s) == "thaw" or turn_waits_on(s) in ("approval", "answer", "client", "doubt")
    return "requires_action" if waits else "in_progress"


def required_actions(s: Session, remotes: Remotes | None = None) -> list[dict[str, Any]]:
    """What somebody must do before the session goes on. `remotes` are the tools that run on MCP servers."""
    calls = s.turn.calls if s.turn else ()
    actions = [action for call in calls if (action := _action(s, call, remotes or {})) is not None]
    for doubt in s.doubts:
        words = (
            f"Nobody knows whether {doubt.tool} happened ({doubt.reason}). `deny` gives it up; to say that it "
            "happened, or that it shall run again, use /admin/v1/doubts."
        )
        where = (f"doubt_{doubt.call}", turn_id(s.id, doubt.turn), _server(doubt.tool, remotes or {}))
        actions.append(_approval(where, None, words))
    return actions


def _action(s: Session, call: Call, remotes: Remotes) -> dict[str, Any] | None:
    if call.state == "asked":
        words = f"{call.name} waits for approval: {call.reason}"
        where = (call.call, turn_id(s.id, s.turns), _server(call.name, remotes))
        return _approval(where, arguments_of(call.arguments), words)
    if call.state == "question" or (call.state == "running" and call.epoch == CLIENT_EPOCH):
        return {
            "type": "function_call",
            "call_id": call.call,
            "name": call.name,
            "arguments": arguments_of(call.arguments),
            "turn_id": turn_id(s.id, s.turns),
        }
    return None


def _server(tool: str, remotes: Remotes) -> tuple[str, str]:
    """Who runs a tool that is not the client's, and under which name."""
    return remotes.get(tool, ("remanence", tool))


def _approval(where: tuple[str, str, tuple[str, str]], arguments: Any, message: str) -> dict[str, Any]:
    """`where`: the id to answer under, the turn's id, the tool's server and name."""
    request_id, turn, (label, tool) = where
    request = {
        "type": "mcp_tool_call",
        "server_label": label,
        "name": tool,
        "arguments": arguments,
        "message": message,
    }
    return {
        "type": "mcp_approval_request",
        "request_id": request_id,
        "turn_id": turn,
        "request": request,
    }


def session_object(s: Session, spec: AgentSpec, budgets: Sequence[Budget]) -> dict[str, Any]:
    """A session. `budgets` are those of the session alone."""
    config = dict(config_of(spec))
    for own in ("metadata", "created_at", "updated_at"):
        config.pop(own, None)
    limits = [budget.limit for budget in budgets if budget.unit == "usd_micros" and budget.limit < UNLIMITED]
    status = session_status(s)
    return {
        "id": s.id,
        "object": "agent.session",
        "agent": {"id": s.agent, **config},
        "created_at": seconds(s.opened_at),
        "last_active_at": seconds(s.at),
        "environment": s.face.get("environment", {"type": "none"}),
        "error": None,
        "metadata": s.metadata,
        "required_actions": required_actions(s, remotes_of(spec.tools)) if status == "requires_action" else [],
        "status": status,
        "usage": token_usage(s.ledger.usage),
        "vault_ids": [],
        "prompt_cache_options": s.face.get("prompt_cache_options"),
        "review": "none",
        "spend_control": {
            "limit": limits[0] // MICROS_PER_CENT if limits else None,
            "consumed": s.ledger.usd_micros // MICROS_PER_CENT,
        },
    }


# --- turns ------------------------------------------------------------------------------------------------------------

_ERROR_CODES: dict[ModelErrorKind, str] = {
    "invalid_request": "invalid_request",
    "authentication": "authentication_error",
    "rate_limited": "rate_limit_exceeded",
    "overloaded": "server_overloaded",
    "timeout": "request_timeout",
    "connection": "connection_failed",
    "server": "server_error",
    "content": "invalid_request",
}


def turn_error(reason: str, failure: str) -> dict[str, str]:
    """Why a turn failed. `failure` is the kind of the model call's last failure, if there was one."""
    code = next((code for kind, code in _ERROR_CODES.items() if kind == failure), "internal_error")
    if reason.startswith("the limit of"):
        code = "session_budget_exceeded"
    return {"code": code, "message": reason or "the turn failed"}


class TurnFacts(msgspec.Struct, frozen=True):
    """What is shown of a turn. Times in microseconds."""

    number: int
    started_at: int
    status: str = "in_progress"
    usage: Usage = Usage()
    ended_at: int | None = None
    error: dict[str, str] | None = None


def turn_object(s: Session, facts: TurnFacts) -> dict[str, Any]:
    """A turn of a session."""
    return {
        "id": turn_id(s.id, facts.number),
        "object": "agent.session.turn",
        "agent_id": s.agent,
        "session_id": s.id,
        "subagent_id": None,
        "created_at": seconds(facts.started_at),
        "started_at": None if facts.status == "queued" else seconds(facts.started_at),
        "completed_at": None if facts.ended_at is None else seconds(facts.ended_at),
        "status": facts.status,
        "error": facts.error,
        "usage": token_usage(facts.usage),
        "prompt_cache_options": s.face.get("prompt_cache_options"),
    }


# --- contents ---------------------------------------------------------------------------------------------------------


def arguments_of(arguments: str) -> Any:
    """The arguments as a value when they are JSON, else the text the model wrote."""
    try:
        return parse_arguments(arguments)
    except ValueError:
        return arguments


def input_contents(parts: Sequence[Part]) -> list[dict[str, str]]:
    """What a person or a tool said, as contents; kinds that the API does not know are named in words."""
    return [_content(part) for part in parts]


def _content(part: Part) -> dict[str, str]:
    match part:
        case Text(text=text):
            return {"type": "input_text", "text": text}
        case Image(url=str() as url):
            return {"type": "input_image", "image_url": url}
        case Image(media_type=media_type, data=str() as data):
            return {"type": "input_image", "image_url": f"data:{media_type};base64,{data}"}
        case _:
            return {"type": "input_text", "text": f"[{type(part).__name__.lower()}]"}


def output_of(parts: Sequence[Part]) -> str | list[dict[str, str]]:
    """A tool's result: its text, or contents when there is more to it."""
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return input_contents(parts)
