"""What tests of the Agents API say through the vendors' client, in few words."""

from __future__ import annotations

from typing import Any

Client = Any
"""The vendors' client, without its types: a test reads fields that not every arm of their unions has."""
NONE: Any = {"type": "none"}
LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}


def opened(client: Client, said: Any = None, **more: Any) -> Any:
    """A session with the tool `look`, or of what is given."""
    if "agent_id" not in more:
        more.setdefault("agent", {"model": "scripted", "tools": [LOOK]})
    return client.beta.agents.sessions.create(environment=NONE, input=said, **more)


def follow(client: Client, session: str, *kinds: str, after: str = "0.0") -> list[Any]:
    """Events after a place, until one of these kinds."""
    with client.beta.agents.sessions.events.stream(session, extra_query={"starting_after": after}) as events:
        read: list[Any] = []
        for event in events:
            read.append(event)
            if event.type.removeprefix("agent.session.") in kinds:
                break
        return read


def send(client: Client, session: str, *events: Any, **more: Any) -> None:
    client.beta.agents.sessions.events.create(session, events=list(events), **more)


def message(text: str) -> Any:
    content = [{"type": "input_text", "text": text}]
    return {"type": "agent.session.input.message", "input": [{"role": "user", "content": content}]}


def result(action: Any, output: Any = "seen", **more: Any) -> Any:
    kind = "agent.session.input.tool_result"
    return {
        "type": kind,
        "call_id": action.call_id,
        "turn_id": action.turn_id,
        "success": True,
        "output": output,
        **more,
    }


def decision(action: Any, word: str) -> Any:
    response = {"type": "mcp_tool_call", "decision": word}
    kind = "agent.session.input.mcp_approval_request_result"
    return {"type": kind, "request_id": action.request_id, "response": response}


def said_in(client: Client, session: str) -> list[str]:
    items = client.beta.agents.sessions.items.list(session, order="asc")
    return [item.output_text for item in items if item.type == "message" and item.role == "assistant"]
