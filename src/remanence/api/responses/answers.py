"""Answers to approvals, journaled with what came beside them: words of a person, and what functions came to."""

from __future__ import annotations

from remanence.api.responses.input import Given, refuse
from remanence.api.responses.items import approval_id
from remanence.api.responses.request import AGENT
from remanence.api.responses.ties import ruled
from remanence.commands import approvals, sessions
from remanence.commands.approvals import Ruling
from remanence.commands.caller import Bound, Caller
from remanence.commands.together import Judged, together
from remanence.content import Part, ToolResult
from remanence.core.context import shown_bytes
from remanence.core.state import Session
from remanence.events import InputReceived, ToolReturned
from remanence.ports import Appended
from remanence.spec import AgentSpec, policy_digest, spec_digest

__all__ = ["decided"]


async def decided(caller: Caller, s: Session, spec: AgentSpec, given: Given, once: Bound | None) -> Appended:
    """Journal the answers with what is new besides them: all, or none.

    They hold under the rules they were asked under. What the request asks for else, which is `spec`, goes for the rest
    of the turn when its rules are the same.
    """
    if any(message.role == "assistant" for message in given.messages):
        refuse("input", "what the model said is known here: send the answers, and what is new besides them")
    calls = [answer.call.removeprefix(approval_id(s.id, "")) for answer in given.approvals]
    open_calls = [s.call(call) for call in calls]
    same = spec.name == AGENT and policy_digest(spec) == s.policy and all(c and c.state == "asked" for c in open_calls)
    if same and spec_digest(spec) != s.version:
        await sessions.upgrade(caller, s.id, spec)
    judged = [_heard(caller, message.parts) for message in given.messages if message.role == "user"]
    judged += [_returned(caller, result) for result in given.results]
    for answer in given.approvals:
        ruling = Ruling("approve" if answer.approve else "deny", answer.reason)
        judged.append(lambda s, _, answer=answer, ruling=ruling: ruled(caller, s, answer, ruling))
    return await together(caller, s.id, *judged, once=once)


def _heard(caller: Caller, parts: tuple[Part, ...]) -> Judged:
    sessions.check_input(caller, parts)
    name = caller.make_id("in")
    return lambda s, spec: InputReceived(name, parts, caller.actor, "steer", shown=shown_bytes(spec, parts))


def _returned(caller: Caller, result: ToolResult) -> Judged:
    """What a call of the client's came to."""
    event = ToolReturned(result.call, result.parts, result.error)
    return lambda s, spec: approvals.returned(caller, s, spec, event)
