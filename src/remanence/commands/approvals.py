"""What waits for a person: approvals, doubts, questions, calls the client runs.

An approval is bound when it is given: to the digest of the exact arguments, to the person, to the policy that asked,
and to an expiry if one is wanted. It is used once, by the start of that one call, after being judged again just then.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from remanence.commands.caller import Caller, check_size, state_of
from remanence.commands.sessions import Once, check_input
from remanence.commands.together import together
from remanence.content import Part
from remanence.core.registry import EXPIRES_S_MAX
from remanence.core.state import CLIENT_EPOCH, Call, Doubt, Session, said
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.events import ApprovalGiven, InputReceived, ToolResolved, ToolReturned
from remanence.ports import Appended, SessionQuery
from remanence.spec import AgentSpec

__all__ = [
    "HIDES_OTHERS",
    "Resolution",
    "Ruling",
    "Waiting",
    "answer",
    "answered",
    "approve",
    "check_ruling",
    "doubts",
    "resolve",
    "resolved",
    "returned",
    "rule",
    "ruled",
    "tool_result",
    "waiting",
    "waiting_in",
]

_MICROS = 1_000_000
HIDES_OTHERS = ("doubt", "thaw", "budget")
"""What a session's row says it waits for, where it may wait for something else as well."""


class Waiting(msgspec.Struct, frozen=True):
    """One call that waits for a person, with everything the person should see before answering."""

    session: str
    agent: str
    user: str
    call: str
    tool: str
    arguments: str
    digest: str
    kind: Literal["approval", "answer"]
    rule: str
    approvers: tuple[str, ...]
    needed: int
    approved_by: tuple[str, ...]
    expires_at: int | None
    turn: int


async def waiting(caller: Caller, *, session: str | None = None, limit: int = 100) -> list[Waiting]:
    """Approvals and questions that wait, in one session or in all of the project."""
    states = await _sessions_waiting(caller, session, ("approval", "answer", *HIDES_OTHERS), limit)
    return [one for s in states for one in waiting_in(s)]


def waiting_in(s: Session) -> list[Waiting]:
    """The same of one session, as it stands."""
    calls = s.turn.calls if s.turn else ()
    return [_waiting(s, call) for call in calls if call.state in ("asked", "question")]


async def doubts(caller: Caller, *, session: str | None = None, limit: int = 100) -> list[tuple[Session, Doubt]]:
    """Effects in doubt, with their sessions."""
    states = await _sessions_waiting(caller, session, HIDES_OTHERS, limit)
    return [(s, doubt) for s in states for doubt in s.doubts]


class Ruling(msgspec.Struct, frozen=True):
    """What a person says to a call that waits for approval. `expires_s`: the approval is good for so long."""

    decision: Literal["approve", "deny"] = "approve"
    note: str = ""
    expires_s: float | None = None


async def approve(
    caller: Caller,
    session: str,
    call: str,
    *,
    decision: Literal["approve", "deny"] = "approve",
    note: str = "",
    expires_s: float | None = None,
) -> Appended:
    """Answer one exact call, as `caller.actor`. Durable when it returns.

    Raises NotFound when no such call waits, Conflict when it was answered already, InvalidInput when the rule names
    approvers and this is not one of them.
    """
    return await rule(caller, session, call, Ruling(decision, note, expires_s))


async def rule(caller: Caller, session: str, call: str, ruling: Ruling, *, once: Once | None = None) -> Appended:
    """As `approve`; once under a key."""
    return await together(caller, session, lambda s, _: ruled(caller, s, call, ruling), once=once)


def check_ruling(ruling: Ruling) -> None:
    """Raise InvalidInput for a time that is none, or too long. Who sends it on asks first: JSON has no endless one."""
    if ruling.expires_s is not None and not 0 < ruling.expires_s <= EXPIRES_S_MAX:
        raise InvalidInput(
            "An approval must be good for some time, at most for 100 years. Nothing was recorded; give another time, "
            "or none.",
            param="expires_s",
        )


def ruled(caller: Caller, s: Session, call: str, ruling: Ruling) -> ApprovalGiven:
    """The fact that a ruling is in a session as it stands. Raises as `approve`."""
    check_ruling(ruling)
    known = _known(s, call)
    if s.turn is not None and s.turn.cancel is not None:
        raise Conflict(
            f"The turn of call {call} is being cancelled, so it will not start; your answer was not recorded."
        ).because("not_asked", call=call)
    if known.state != "asked":
        then = " To stop it before it starts, cancel the turn." if known.state == "approved" else ""
        raise Conflict(
            f"Call {call} does not wait for approval (it is {known.state}); your answer was not recorded.{then}"
        ).because("not_asked", call=call)
    _check_approver(caller, known)
    now = caller.clock.now()
    if known.expires_at is not None and now >= known.expires_at:
        raise Conflict(
            f"Call {call} waited for approval until its time ran out; your answer was not recorded."
        ).because("approval_expired", call=call)
    expires_at = None if ruling.expires_s is None else now + int(ruling.expires_s * _MICROS)
    return ApprovalGiven(call, ruling.decision, caller.actor, known.digest, known.policy, ruling.note, expires_at)


def _check_approver(caller: Caller, call: Call) -> None:
    if call.approvers and caller.actor not in call.approvers:
        names = ", ".join(call.approvers)
        raise InvalidInput(f"Only {names} may answer this call, not {caller.actor}. Nothing was recorded.").because(
            "not_approver", names=names, name=caller.actor
        )
    if any(approval.by == caller.actor for approval in call.approvals):
        raise Conflict(
            f"{caller.actor} has approved this call already; {call.needed} different people are needed."
        ).because("said_yes_before", name=caller.actor, needed=call.needed)


class Resolution(msgspec.Struct, frozen=True):
    """What a person says of an effect in doubt: it happened (with this result), it did not and shall run, or it is
    given up."""

    outcome: Literal["happened", "run_again", "give_up"]
    result: str = ""
    note: str = ""


async def resolve(
    caller: Caller, session: str, call: str, resolution: Resolution, *, once: Once | None = None
) -> Appended:
    """Settle a doubt, once under a key.

    Raises NotFound when there is no such doubt, Conflict for `run_again` once the turn has ended, TooLarge.
    """
    return await together(caller, session, lambda s, _: resolved(caller, s, call, resolution), once=once)


def resolved(caller: Caller, s: Session, call: str, resolution: Resolution) -> ToolResolved:
    """The fact that settles a doubt of a session as it stands. Raises as `resolve`."""
    outcome, result = resolution.outcome, resolution.result
    check_size(caller, len(result.encode()))
    if not any(doubt.call == call for doubt in s.doubts):
        raise NotFound(f"Session {s.id} has no effect in doubt for call {call}; it may be resolved already.").because(
            "no_doubt", session=s.id, call=call
        )
    if outcome == "run_again" and s.call(call) is None:
        raise Conflict(
            f"The turn of call {call} has ended, so it cannot run again there. The doubt stands; "
            "say that it happened or give it up, and ask the agent anew."
        ).because("turn_over", call=call)
    return ToolResolved(call, outcome, caller.actor, said(result) if result else (), note=resolution.note)


async def answer(
    caller: Caller, session: str, call: str, parts: tuple[Part, ...], *, once: Once | None = None
) -> Appended:
    """Answer a question the agent asked with `ask_human`. Raises as `sessions.send`; Conflict when it does not wait."""
    return await together(caller, session, lambda s, _: answered(caller, s, call, parts), once=once)


def answered(caller: Caller, s: Session, call: str, parts: tuple[Part, ...]) -> InputReceived:
    """The fact that answers a question of a session as it stands. Raises as `answer`."""
    check_input(caller, parts)
    if _known(s, call).state != "question":
        raise Conflict(f"Call {call} is not a question that waits; your answer was not recorded.").because(
            "no_question", call=call
        )
    return InputReceived(caller.make_id("in"), parts, caller.actor, answers=call)


async def tool_result(
    caller: Caller, session: str, call: str, parts: tuple[Part, ...], *, error: bool = False
) -> Appended:
    """The result of a call that the client runs. Conflict when the call is not the client's or has its result."""
    return await together(caller, session, lambda s, spec: returned(caller, s, spec, ToolReturned(call, parts, error)))


def returned(caller: Caller, s: Session, spec: AgentSpec, result: ToolReturned) -> ToolReturned:
    """The result, as a session of this version takes it as it stands. Raises as `tool_result`."""
    check_size(caller, len(msgspec.json.encode(result.parts)))
    known = _known(s, result.call)
    if known.state != "running" or known.epoch != CLIENT_EPOCH:
        raise Conflict(f"Call {result.call} does not wait for a result from the client (it is {known.state}).")
    return replace(result, untrusted=spec.distrusts(known.name))


def _known(s: Session, call: str) -> Call:
    known = s.call(call)
    if known is None:
        raise NotFound(f"Session {s.id} has no open call {call}; its turn may have ended.").because(
            "no_call", session=s.id, call=call
        )
    return known


def _waiting(s: Session, call: Call) -> Waiting:
    return Waiting(
        session=s.id,
        agent=s.agent,
        user=s.user,
        call=call.call,
        tool=call.name,
        arguments=call.arguments,
        digest=call.digest,
        kind="approval" if call.state == "asked" else "answer",
        rule=call.reason,
        approvers=call.approvers,
        needed=call.needed,
        approved_by=tuple(approval.by for approval in call.approvals),
        expires_at=call.expires_at,
        turn=s.turns,
    )


async def _sessions_waiting(caller: Caller, session: str | None, words: tuple[str, ...], limit: int) -> list[Session]:
    if session is not None:
        return [await state_of(caller, session)]
    found: list[Session] = []
    for word in words:
        query = SessionQuery(project=caller.project, waiting_on=word, limit=limit)
        rows = await caller.database.views.sessions(query)
        found += [await state_of(caller, row.session) for row in rows]
    return found
