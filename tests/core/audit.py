"""The laws, read off a finished journal by eyes that share nothing with the loop: no fold, no decision is trusted here.

Each check is a plain walk over the records that keeps its own few notes. A broken law raises AssertionError and names
the position.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from remanence.content import Message, ToolCall, ToolResult, arguments_digest, parse_arguments
from remanence.core.policy import Ask, Deny, judge
from remanence.events import (
    ApprovalGiven,
    CallJudged,
    CancelAsked,
    InputJoined,
    InputReceived,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recorded,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec

Specs = Mapping[str, AgentSpec]


def check_all(records: Sequence[Recorded], specs: Specs, performed: Sequence[ToolStarted]) -> None:
    check_inputs(records)
    check_turns(records)
    check_effects(records, performed)
    check_starts(records, specs)
    check_quiet(records)
    check_limits(records, specs)


def check_inputs(records: Sequence[Recorded]) -> None:
    """Every accepted input ends in one turn or answers one question; turns take theirs in order; none is lost."""
    heard = [r.position for r in records if isinstance(r.event, InputReceived)]
    busy = {r.position: r.event.if_busy for r in records if isinstance(r.event, InputReceived)}
    taken: list[int] = []
    begun: list[int] = []
    for r in records:
        match r.event:
            case TurnStarted(inputs=inputs):
                assert inputs, f"#{r.position}: a turn without an input"
                taken += inputs
                begun += inputs
            case InputJoined(position=position):
                assert busy[position] == "steer", f"#{r.position}: only steering joins a running turn"
                taken.append(position)
            case _:
                pass
    assert len(set(taken)) == len(taken), f"an input was taken twice: {taken}"
    assert begun == sorted(begun), f"inputs were not taken in order: {begun}"
    answers = [position for position in heard if position not in taken]
    returned = [r.event.parts for r in records if isinstance(r.event, ToolReturned)]
    parts = {r.position: r.event.parts for r in records if isinstance(r.event, InputReceived)}
    asked = sum(isinstance(r.event, QuestionAsked) for r in records)
    assert len(answers) <= asked, f"lost inputs: {answers}"
    for position in answers:
        assert parts[position] in returned, f"the input at #{position} went nowhere"


def check_turns(records: Sequence[Recorded]) -> None:
    """Turns do not overlap and are numbered; nothing stays open when one ends; every call is closed exactly once."""
    number, open_calls, running_model = 0, dict[str, bool](), ""
    for r in records:
        where = f"#{r.position}"
        match r.event:
            case TurnStarted(turn=turn):
                assert turn == number + 1, where
                assert not open_calls, where
                number = turn
            case ModelCalled(call=call, turn=turn):
                assert turn == number, where
                assert not open_calls, f"{where}: the model is called while {open_calls} are open"
                assert not running_model, where
                running_model = call
            case ModelReplied(call=call, parts=parts):
                assert running_model == call, where
                running_model = ""
                open_calls = {p.call: False for p in parts if isinstance(p, ToolCall)}
            case ModelFailed(call=call):
                assert running_model == call, where
                running_model = ""
            case ToolStarted(call=call):
                assert call in open_calls, f"{where}: {call} is not open"
                open_calls[call] = True
            case ToolReturned(call=call):
                assert call in open_calls, f"{where}: {call} is closed twice"
                del open_calls[call]
            case TurnEnded(turn=turn):
                assert turn == number, where
                assert not open_calls, f"{where}: {open_calls} stay open after the turn"
                assert not running_model, f"{where}: {running_model} is running after the turn"
            case _:
                pass


def check_effects(records: Sequence[Recorded], performed: Sequence[ToolStarted]) -> None:
    """No effect starts twice for `never` without a resolution; what `TurnEnded` says agrees with what happened."""
    attempts: dict[str, int] = defaultdict(int)
    again: dict[str, int] = Counter()
    doubts: set[str] = set()
    unknown: set[str] = set()
    for r in records:
        where = f"#{r.position}"
        match r.event:
            case ToolStarted(effect_key=key, call=call, replay=replay, attempt=attempt):
                assert key == f"{r.session}:{call.split('_')[1]}:{call}", where
                assert attempt == attempts[key] + 1, where
                if attempt > 1 and replay == "never":
                    assert again[key] >= attempt - 1, f"{where}: {key} starts again, and nobody said so"
                attempts[key] = attempt
                doubts.discard(key)
                unknown.discard(key)
            case ToolLost(effect_key=key):
                doubts.add(key)
                unknown.add(key)
            case ToolResolved(call=call, outcome=outcome):
                key = f"{r.session}:{call.split('_')[1]}:{call}"
                again[key] += outcome == "run_again"
                doubts.discard(key)
                if outcome != "give_up":
                    unknown.discard(key)
            case TurnEnded(turn=turn, happened=happened, in_doubt=in_doubt):
                mine = {key for key in unknown if key.split(":")[1] == str(turn)}
                assert set(in_doubt) == mine, f"{where}: says {in_doubt} are in doubt, but {mine} are"
                assert not mine & set(happened), f"{where}: {happened} cannot be vouched for"
                assert len(set(happened)) == len(happened), where
            case _:
                pass
    for key, count in Counter(p.effect_key for p in performed if p.replay == "never").items():
        assert count <= 1 + again[key], f"{key} happened {count} times with {again[key]} resolutions"


def check_starts(records: Sequence[Recorded], specs: Specs) -> None:
    """Every start is covered when it happens: the policy of that moment allows it, or asks and was answered.

    An approval counts for the same arguments, under the same policy, before its expiry, from a person who was asked,
    and once: a start after it uses it up, unless the same effect goes on under its key.
    """
    version = policy = ""
    arguments: dict[str, tuple[str, str]] = {}
    asked: dict[str, tuple[int, CallJudged]] = {}
    given: dict[str, dict[str, tuple[int, ApprovalGiven]]] = defaultdict(dict)
    covered: dict[str, str] = {}
    for r in records:
        where = f"#{r.position}"
        match r.event:
            case SessionOpened(version=v, policy=p) | SessionUpgraded(version=v, policy=p):
                version, policy = v, p
            case ModelReplied(parts=parts):
                arguments |= {p.call: (p.name, p.arguments) for p in parts if isinstance(p, ToolCall)}
            case CallJudged(call=call, verdict=verdict):
                given[call] = {}
                covered.pop(call, None)
                if verdict == "ask":
                    asked[call] = (r.at, r.event)
                else:
                    asked.pop(call, None)
            case ApprovalGiven(call=call, decision=decision, by=by):
                if decision == "deny":
                    given[call] = {"": (0, r.event)}
                elif "" not in given[call]:
                    given[call][by] = (r.at, r.event)
            case ToolStarted(call=call, tool=name):
                spec = specs[version]
                tool = spec.tool(name)
                assert tool is not None, f"{where}: {name} is no tool of this version"
                verdict = judge(spec, tool, parse_arguments(arguments[call][1]))
                assert not isinstance(verdict, Deny), f"{where}: {name} is denied now"
                if covered.get(call) == policy:
                    continue
                if isinstance(verdict, Ask) or call in asked:
                    assert call in asked, f"{where}: {name} must be asked about"
                    _check_answer(where, r, asked[call], given[call], arguments[call])
                    if isinstance(verdict, Ask):
                        assert asked[call][1].policy == policy, f"{where}: approved under another policy"
                given[call] = {}
                covered[call] = policy
            case _:
                pass


def _check_answer(
    where: str,
    start: Recorded,
    question: tuple[int, CallJudged],
    answers: Mapping[str, tuple[int, ApprovalGiven]],
    call: tuple[str, str],
) -> None:
    judged = question[1]
    assert "" not in answers, f"{where}: it was denied"
    valid = [
        given.by
        for at, given in answers.values()
        if given.arguments == judged.arguments == arguments_digest(*call)
        and given.policy == judged.policy
        and (given.expires_at is None or start.at < given.expires_at)
        and (judged.expires_at is None or at < judged.expires_at)
        and (not judged.approvers or given.by in judged.approvers)
    ]
    assert len(set(valid)) >= judged.needed, f"{where}: {judged.needed} approvals were needed, {valid} are valid"
    assert isinstance(start.event, ToolStarted)
    assert set(start.event.approved_by) == set(valid), where


def check_quiet(records: Sequence[Recorded]) -> None:
    """No effect starts while the session is frozen, nor in a turn that somebody stopped; only such turns are cancelled.

    A turn is stopped by a cancel or an interrupting input that comes while it runs, or by a cancel that came while its
    input was still queued.
    """
    frozen, stopped, stopped_before, turn = False, False, False, 0
    for r in records:
        where = f"#{r.position}"
        match r.event:
            case SessionFrozen():
                frozen = True
            case SessionThawed():
                frozen = False
            case InputReceived(if_busy=if_busy):
                stopped = stopped or (if_busy == "interrupt" and turn > 0)
            case CancelAsked():
                stopped, stopped_before = stopped or turn > 0, stopped_before or turn == 0
            case TurnStarted(turn=number):
                turn, stopped, stopped_before = number, stopped_before, False
            case TurnEnded(status=status):
                assert (status == "cancelled") == stopped, f"{where}: {status}"
                turn, stopped = 0, False
            case ModelCalled() | ToolStarted():
                assert not frozen, f"{where}: an effect starts in a frozen session"
                assert not stopped, f"{where}: an effect starts in a turn that was stopped"
            case _:
                pass


def check_limits(records: Sequence[Recorded], specs: Specs) -> None:
    """Model calls of a turn, repeats before asking, and what was set aside for each model call."""
    version, calls = "", 0
    repeats: Counter[str] = Counter()
    judged: set[str] = set()
    reserved: ModelCalled | None = None
    for r in records:
        where = f"#{r.position}"
        match r.event:
            case SessionOpened(version=v) | SessionUpgraded(version=v):
                version = v
            case TurnStarted():
                calls, repeats, judged = 0, Counter(), set()
            case ModelCalled(attempt=attempt):
                limits = specs[version].limits
                calls += attempt == 1
                assert calls <= limits.model_calls_per_turn, where
                assert attempt <= limits.model_attempts, where
                reserved = r.event
            case ModelReplied(usage=usage, cost_usd_micros=cost):
                assert reserved is not None, where
                assert usage.total_tokens <= reserved.reserved_tokens, f"{where}: more was used than set aside"
                assert (cost or 0) <= reserved.reserved_usd_micros, where
            case CallJudged(call=call, verdict=verdict, arguments=digest) if call not in judged:
                judged.add(call)
                if repeats[digest] >= specs[version].limits.repeats_before_asking:
                    assert verdict != "allow", f"{where}: the same call for the {repeats[digest] + 1}th time"
                repeats[digest] += 1
            case _:
                pass


def check_paired(messages: Sequence[Message]) -> None:
    """Every call of a prompt is followed by its one result before anything else is said, and no result stands alone."""
    waiting: list[str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                assert part.call in waiting, f"a result of {part.call} without its call"
                waiting.remove(part.call)
        if message.role != "tool":
            assert not waiting, f"{waiting} have no result before the next {message.role} speaks"
        waiting += [part.call for part in message.parts if isinstance(part, ToolCall)]
        assert message.parts, "an empty message"
    assert not waiting, f"{waiting} have no result"
