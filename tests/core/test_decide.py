"""Decision tables: what follows from each state of a call, in each situation a session can be in."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from remanence.content import ToolCall, arguments_digest
from remanence.core.builtins import ASK_HUMAN, SLEEP_UNTIL
from remanence.core.decide import KEYED_ATTEMPTS, STARTS_MAX, CallModel, Note, Rest, RunTool, decide
from remanence.core.state import (
    CLIENT_EPOCH,
    Approval,
    Call,
    CallState,
    Doubt,
    ModelStep,
    Pause,
    Queued,
    Session,
    Turn,
)
from remanence.events import (
    ApprovalExpired,
    CallJudged,
    InputJoined,
    ModelFailed,
    QuestionAsked,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, Limits, Replay, ToolSpec, policy_digest
from remanence.testing.journals import NOW, Case, approved, called, given, heard, replied, returned, wants

SPEC = AgentSpec(
    "a",
    "scripted",
    tools=(
        ToolSpec("look", replay="safe"),
        ToolSpec("post", replay="keyed"),
        ToolSpec("pay", replay="never"),
        ToolSpec("page", kind="client"),
        ASK_HUMAN,
        SLEEP_UNTIL,
    ),
    rules=(AllowRule("*"), AskRule("pay", "cents > 50")),
    limits=Limits(model_calls_per_turn=3, model_attempts=2, repeats_before_asking=2, tool_calls_per_reply=4),
)
POLICY = policy_digest(SPEC)
TOOL: dict[str, str] = {"safe": "look", "keyed": "post", "never": "pay"}
C = "call_1_1_1"


def a_call(state: CallState, replay: Replay = "never", **fields: Any) -> Call:
    arguments = '{"cents":100}' if state in ("asked", "approved") else '{"cents":1}'
    name, digest = TOOL[replay], arguments_digest(TOOL[replay], arguments)
    started = state in ("running", "in_doubt", "rerun", "given_up")
    call = Call(C, name, arguments, digest, state, policy="" if state == "new" else POLICY, replay=replay)
    call = msgspec.structs.replace(call, attempt=int(started), epoch=int(started), due_at=NOW + 5)
    if state == "approved":
        call = msgspec.structs.replace(call, approvals=(Approval("grace", digest, POLICY, None),))
    return msgspec.structs.replace(call, **fields)


def a_session(call: Call | None = None, **fields: Any) -> Session:
    calls = () if call is None else (call,)
    s = Session("s", "a", "v", POLICY, head=9, at=NOW, turns=1, turn=Turn(1, NOW, 3, model_calls=1, calls=calls))
    if call is not None and call.state == "in_doubt":
        s = msgspec.structs.replace(s, doubts=(Doubt(C, f"s:1:{C}", call.name, 1, NOW),))
    return msgspec.structs.replace(s, **fields)


def cancelled(s: Session) -> Session:
    assert s.turn is not None
    return msgspec.structs.replace(s, turn=msgspec.structs.replace(s.turn, cancel="ada"))


def kind(action: object) -> str:
    """The name of what follows: the event of a note, `RunTool`, `CallModel`, or `Rest:why`."""
    match action:
        case Note(event=event):
            return type(event).__name__
        case Rest(why=why):
            return f"Rest:{why}"
        case _:
            return type(action).__name__


EACH_STATE: dict[CallState, tuple[str, str]] = {
    # state: what follows, and what follows when the turn is cancelled
    "new": ("CallJudged", "ToolReturned"),
    "allowed": ("RunTool", "ToolReturned"),
    "asked": ("Rest:asked", "ToolReturned"),
    "approved": ("RunTool", "ToolReturned"),
    "refused": ("ToolReturned", "ToolReturned"),
    "question": ("Rest:question", "ToolReturned"),
    "sleeping": ("Rest:sleeping", "ToolReturned"),
    "running": ("Rest:running", "Rest:running"),
    "in_doubt": ("Rest:in_doubt", "ToolReturned"),
    "settled": ("ToolReturned", "ToolReturned"),
    "rerun": ("RunTool", "ToolReturned"),
    "given_up": ("ToolReturned", "ToolReturned"),
    "returned": ("CallModel", "TurnEnded"),
}


def test_the_table_has_every_state() -> None:
    assert set(EACH_STATE) == set(get_args(CallState))


@pytest.mark.parametrize("state", get_args(CallState))
@pytest.mark.parametrize("replay", get_args(Replay))
def test_each_state_in_each_situation(state: CallState, replay: Replay) -> None:
    plain, after_cancel = EACH_STATE[state]
    s = a_session(a_call(state, replay))
    if state == "in_doubt" and replay == "keyed":
        plain = "RunTool"  # again under its key, a few times
    frozen = msgspec.structs.replace(s, frozen="ada")
    paused = msgspec.structs.replace(s, pause=Pause("session:s", "tokens", 1, 1, 1))
    for epoch in (1, 2):
        lost = state == "running" and epoch == 2
        begun = {"safe": "RunTool", "keyed": "RunTool", "never": "ToolLost"}[replay] if lost else plain
        ended = {"safe": "ToolReturned", "keyed": "ToolLost", "never": "ToolLost"}[replay] if lost else after_cancel
        fact = "ToolLost" if lost and replay == "never" else ""
        assert kind(decide(s, SPEC, now=NOW, epoch=epoch)) == begun
        assert kind(decide(cancelled(s), SPEC, now=NOW, epoch=epoch)) == ended
        assert kind(decide(cancelled(frozen), SPEC, now=NOW, epoch=epoch)) == ended
        assert kind(decide(cancelled(paused), SPEC, now=NOW, epoch=epoch)) == ended
        assert kind(decide(frozen, SPEC, now=NOW, epoch=epoch)) == (fact or "Rest:frozen")
        assert kind(decide(paused, SPEC, now=NOW, epoch=epoch)) == (fact or "Rest:budget")


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_rest_says_what_to_stop_what_to_look_up_and_when_to_look_again() -> None:
    safe, never = a_session(a_call("running", "safe")), a_session(a_call("running"))
    assert decide(cancelled(safe), SPEC, now=NOW, epoch=1) == Rest("running", abort=(C,))
    assert decide(cancelled(never), SPEC, now=NOW, epoch=1) == Rest("running")
    assert decide(a_session(a_call("in_doubt")), SPEC, now=NOW, epoch=1) == Rest("in_doubt", reconcile=(C,))
    assert decide(a_session(a_call("sleeping")), SPEC, now=NOW, epoch=1) == Rest("sleeping", NOW + 5)
    assert decide(a_session(a_call("asked", expires_at=NOW + 7)), SPEC, now=NOW, epoch=1) == Rest("asked", NOW + 7)


def test_dates_that_came() -> None:
    sleeping, asked = a_session(a_call("sleeping")), a_session(a_call("asked", expires_at=NOW + 5))
    assert decide(sleeping, SPEC, now=NOW + 5, epoch=1) == Note(TimerFired(C))
    assert decide(asked, SPEC, now=NOW + 5, epoch=1) == Note(ApprovalExpired(C))
    running_out = a_call("approved")
    digest = running_out.digest
    running_out = msgspec.structs.replace(running_out, approvals=(Approval("grace", digest, POLICY, NOW + 5),))
    assert isinstance(decide(a_session(running_out), SPEC, now=NOW + 4, epoch=1), RunTool)
    assert decide(a_session(running_out), SPEC, now=NOW + 5, epoch=1) == Note(ApprovalExpired(C))


@pytest.mark.parametrize("approval", [("other", POLICY), ("", "another policy")])
def test_an_approval_of_something_else_does_not_start_it(approval: tuple[str, str]) -> None:
    call = a_call("approved")
    wrong = Approval("grace", approval[0] or call.digest, approval[1], None)
    call = msgspec.structs.replace(call, approvals=(wrong,))
    action = decide(a_session(call), SPEC, now=NOW, epoch=1)
    assert isinstance(action, Note)
    assert isinstance(action.event, CallJudged)
    assert action.event.verdict == "ask"


def test_a_keyed_effect_in_doubt_runs_again_a_few_times_then_waits() -> None:
    attempts: list[int] = []
    for attempt in range(1, KEYED_ATTEMPTS + 1):
        action = decide(a_session(a_call("in_doubt", "keyed", attempt=attempt)), SPEC, now=NOW, epoch=1)
        if isinstance(action, RunTool):
            attempts.append(action.event.attempt)
        else:
            assert action == Rest("in_doubt", reconcile=(C,))
    assert attempts == list(range(2, KEYED_ATTEMPTS + 1))


STRICTER = msgspec.structs.replace(SPEC, rules=(AskRule("*"),))
CLOSED = msgspec.structs.replace(SPEC, rules=(DenyRule("*", reason="closed"),))
WITHOUT = msgspec.structs.replace(SPEC, tools=())


@pytest.mark.parametrize(
    ("spec", "state", "replay", "follows"),
    [
        # what may have happened is in doubt, unless it may run twice
        (STRICTER, "running", "safe", "CallJudged"),
        (STRICTER, "running", "keyed", "ToolLost"),
        (STRICTER, "in_doubt", "keyed", "Rest:in_doubt"),
        (CLOSED, "running", "safe", "CallJudged"),
        (CLOSED, "running", "keyed", "ToolLost"),
        (CLOSED, "in_doubt", "keyed", "Rest:in_doubt"),
        (WITHOUT, "running", "safe", "ToolReturned"),
        (WITHOUT, "running", "keyed", "ToolLost"),
        # what is known not to have happened is judged again
        (STRICTER, "rerun", "never", "CallJudged"),
        (CLOSED, "rerun", "never", "CallJudged"),
        (WITHOUT, "rerun", "never", "ToolReturned"),
        # what never started as well
        (STRICTER, "allowed", "never", "CallJudged"),
        (STRICTER, "approved", "never", "CallJudged"),
        (CLOSED, "approved", "never", "CallJudged"),
        (WITHOUT, "approved", "never", "ToolReturned"),
        (WITHOUT, "new", "never", "ToolReturned"),
    ],
)
def test_the_policy_of_now_judges_each_start(spec: AgentSpec, state: CallState, replay: Replay, follows: str) -> None:
    s = msgspec.structs.replace(a_session(a_call(state, replay)), policy=policy_digest(spec))
    action = decide(s, spec, now=NOW, epoch=2)
    assert kind(action) == follows
    if isinstance(action, Note) and isinstance(action.event, CallJudged):
        assert action.event.verdict == ("ask" if spec is STRICTER else "deny")
        assert action.event.policy == policy_digest(spec)


@pytest.mark.parametrize(("state", "follows"), [("new", "ToolReturned"), ("approved", "ToolReturned")])
@pytest.mark.parametrize("replay", get_args(Replay))
def test_nothing_starts_on_erased_arguments(state: CallState, replay: Replay, follows: str) -> None:
    action = decide(a_session(a_call(state, replay, erased=True)), SPEC, now=NOW, epoch=1)
    assert kind(action) == follows
    running = decide(a_session(a_call("running", replay, erased=True)), SPEC, now=NOW, epoch=2)
    assert kind(running) == ("ToolReturned" if replay == "safe" else "ToolLost")


def test_a_call_the_client_has_waits_for_the_client() -> None:
    call = a_call("running", "never", epoch=CLIENT_EPOCH, name="page")
    s = a_session(call)
    for epoch in (1, 2):
        assert decide(s, SPEC, now=NOW, epoch=epoch) == Rest("waiting")
        assert kind(decide(cancelled(s), SPEC, now=NOW, epoch=epoch)) == "ToolLost"


# --- the first judgement ----------------------------------------------------------------------------------------------


def asked_for(*calls: ToolCall, spec: AgentSpec = SPEC) -> Case:
    return given(spec, heard("go"), TurnStarted(1, (2,)), called("model_1_1"), replied("model_1_1", *calls))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (wants("nothing"), "There is no tool called 'nothing'. The tools are: look, post, pay"),
        (ToolCall(C, "pay", "{"), "not valid JSON"),
        (ToolCall(C, "pay", "[1]"), "must be a JSON object"),
        (wants("ask_human"), "`question` is"),
        (wants("sleep_until"), "exactly one of"),
    ],
)
def test_a_bad_call_becomes_a_result_the_model_can_read(call: ToolCall, words: str) -> None:
    action = asked_for(call).decide()
    assert isinstance(action, Note)
    assert isinstance(action.event, ToolReturned)
    assert words in str(action.event.parts)
    assert (action.event.error, action.event.started) == (True, False)


def test_the_built_in_tools_wait_for_a_person_or_a_date() -> None:
    asked_for(wants("ask_human", question="which?")).then(QuestionAsked(C, "which?"), Rest("question"))
    case = asked_for(wants("sleep_until", seconds=3)).then(
        TimerSet(C, NOW + 3_000_000), Rest("sleeping", NOW + 3_000_000)
    )
    case.when(now=NOW + 3_000_000).then(TimerFired(C), ToolReturned, CallModel("model_1_2", 1))


def test_a_rule_may_deny_a_built_in_tool_but_nobody_approves_a_question() -> None:
    closed = msgspec.structs.replace(SPEC, rules=(DenyRule("ask_*", reason="nobody is there"), AskRule("*")))
    asked_for(wants("ask_human", question="q"), spec=closed).then(CallJudged, ToolReturned, CallModel)
    asked_for(wants("sleep_until", seconds=1), spec=closed).then(TimerSet)


def test_too_many_calls_in_one_reply_are_all_refused() -> None:
    many = [wants("look", f"call_1_1_{i}") for i in range(5)]
    case, rest = asked_for(*many).settle()
    closed = [event for event in case.events if isinstance(event, ToolReturned)]
    assert [event.started for event in closed] == [False] * 5
    assert "At most 4 calls" in str(closed[0].parts)
    assert rest == Rest("running")


def test_the_same_call_too_often_is_asked_about() -> None:
    """`repeats_before_asking=2`: twice it runs, the third time somebody is asked, however the keys are ordered."""
    same = [ToolCall(f"call_1_1_{i}", "look", text) for i, text in enumerate(('{"a":1,"b":2}', '{"b": 2, "a": 1}'), 1)]
    case = asked_for(*same, wants("look", "call_1_1_3", b=2, a=1), wants("look", "call_1_1_4", a=1)).settle()[0]
    verdicts = [(e.verdict, e.rule) for e in case.events if isinstance(e, CallJudged)]
    assert [verdict for verdict, _ in verdicts] == ["allow", "allow", "ask", "allow"]
    assert "already made 2 times in this turn" in verdicts[2][1]
    case = case.when(approved(case.state, "call_1_1_3"))
    case.then(RunTool)


def test_a_refused_tool_is_told_why() -> None:
    spec = msgspec.structs.replace(SPEC, rules=(DenyRule("pay", reason="not today"),))
    case = asked_for(wants("pay"), spec=spec).then(CallJudged, ToolReturned, CallModel)
    assert "not today" in str(case.events[-2])


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_model_step_fails_waits_and_is_tried_again() -> None:
    case = given(SPEC, heard("go")).then(TurnStarted(1, (2,)), CallModel("model_1_1", 1), Rest("running"))
    failed = case.when(ModelFailed("model_1_1", "server", "down", retry_at=NOW + 5)).then(Rest("retry", NOW + 5))
    failed.when(now=NOW + 5).then(CallModel("model_1_1", 2))
    ended = case.when(ModelFailed("model_1_1", "authentication", "no key"))
    ended.then(TurnEnded(1, "failed", "model: no key"), Rest("idle"))


def test_a_dead_workers_model_call_is_paid_for_and_tried_again_a_few_times() -> None:
    case = given(SPEC, heard("go")).then(TurnStarted, CallModel)
    step = ModelStep("model_1_1", 1, 1, 4, reserved_usd_micros=70, reserved_tokens=50)
    assert case.state.turn is not None
    lost = msgspec.structs.replace(case.state, turn=msgspec.structs.replace(case.state.turn, model=step))
    action = decide(lost, SPEC, now=NOW + 9, epoch=2)
    assert isinstance(action, Note)
    assert isinstance(action.event, ModelFailed)
    failed = action.event
    assert (failed.kind, failed.retry_at, failed.cost_usd_micros, failed.billed_tokens) == ("lost", NOW + 9, 70, 50)
    case = case.when(epoch=2).then(ModelFailed, CallModel("model_1_1", 2), Rest("running"))
    case.when(epoch=3).then(ModelFailed, TurnEnded, Rest("idle"))


@pytest.mark.parametrize(
    ("replay", "becomes"), [("safe", ToolReturned), ("keyed", ToolLost)], ids=["only read", "may have happened"]
)
def test_a_tool_whose_workers_all_die_is_given_up(replay: Replay, becomes: type) -> None:
    for attempt in range(1, STARTS_MAX):
        again = decide(a_session(a_call("running", replay, attempt=attempt)), SPEC, now=NOW, epoch=2)
        assert isinstance(again, RunTool)
    action = decide(a_session(a_call("running", replay, attempt=STARTS_MAX)), SPEC, now=NOW, epoch=2)
    assert isinstance(action, Note)
    assert isinstance(action.event, becomes)
    assert f"{STARTS_MAX} times" in str(action.event)


def test_a_running_model_call_is_aborted_by_a_cancel() -> None:
    step = ModelStep("model_1_1", 1, 1, 4)
    s = a_session()
    assert s.turn is not None
    s = cancelled(msgspec.structs.replace(s, turn=msgspec.structs.replace(s.turn, model=step)))
    assert decide(s, SPEC, now=NOW, epoch=1) == Rest("running", abort=("model_1_1",))
    assert kind(decide(s, SPEC, now=NOW, epoch=2)) == "ModelFailed"


def test_the_limit_of_model_calls_ends_the_turn() -> None:
    s = a_session(a_call("returned"))
    assert s.turn is not None
    s = msgspec.structs.replace(s, turn=msgspec.structs.replace(s.turn, model_calls=3))
    action = decide(s, SPEC, now=NOW, epoch=1)
    assert isinstance(action, Note)
    assert action.event == TurnEnded(1, "failed", "the limit of 3 model calls in one turn was reached")


# --- inputs -----------------------------------------------------------------------------------------------------------


def queue(*inputs: str) -> tuple[Queued, ...]:
    return tuple(Queued(10 + i, f"in_{i}", busy) for i, busy in enumerate(inputs))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("waiting", "taken"),
    [
        (("queue", "queue"), (10,)),
        (("steer", "queue"), (10,)),
        (("interrupt", "queue"), (10,)),
        (("queue", "interrupt", "queue"), (10, 11)),
        (("queue", "interrupt", "steer", "interrupt"), (10, 11, 12, 13)),
    ],
)
def test_a_turn_takes_the_oldest_input_and_what_an_interruption_came_after(
    waiting: tuple[str, ...], taken: tuple[int, ...]
) -> None:
    s = Session("s", turns=4, queue=queue(*waiting))
    assert decide(s, SPEC, now=NOW, epoch=1) == Note(TurnStarted(5, taken))
    frozen = msgspec.structs.replace(s, frozen="ada")
    assert decide(frozen, SPEC, now=NOW, epoch=1) == Rest("frozen")


def test_steering_joins_between_steps_and_interrupting_ends_the_turn() -> None:
    case = given(SPEC, heard("go")).then(TurnStarted, CallModel)
    steered = case.when(heard("left", if_busy="steer")).then(Rest("running"))
    steered = steered.when(replied("model_1_1", "gone right")).then(InputJoined(1, 5), CallModel("model_1_2", 1))
    steered.when(replied("model_1_2", "gone left")).then(TurnEnded(1, "completed"), Rest("idle"))
    stopped = case.when(heard("stop", if_busy="interrupt")).then(Rest("running", abort=("model_1_1",)))
    stopped = stopped.when(ModelFailed("model_1_1", "cancelled", "cancelled"))
    stopped.then(
        TurnEnded(1, "cancelled", "interrupted by a new input"), TurnStarted(2, (5,)), CallModel("model_2_1", 1)
    )


def test_what_was_queued_before_an_interruption_is_heard_with_it() -> None:
    case = (
        given(SPEC, heard("one")).then(TurnStarted, CallModel).when(heard("two"), heard("three", if_busy="interrupt"))
    )
    case = case.when(ModelFailed("model_1_1", "cancelled", "cancelled"))
    case.then(TurnEnded, TurnStarted(2, (5, 6)), CallModel("model_2_1", 1), Rest("running"))


def test_a_turn_says_what_happened_and_what_nobody_knows() -> None:
    calls = [wants("post", "call_1_1_1"), wants("pay", "call_1_1_2", cents=1), wants("look", "call_1_1_3")]
    case = asked_for(*calls).settle()[0]
    case = case.when(returned("call_1_1_1"), returned("call_1_1_3"), epoch=2).settle()[0]
    assert [d.effect_key for d in case.state.doubts] == ["s:1:call_1_1_2"]
    given_up = case.when(ToolResolved("call_1_1_2", "give_up", "grace")).then(ToolReturned, CallModel)
    ended = given_up.when(replied("model_1_2", "so be it")).then(TurnEnded).events[-1]
    assert isinstance(ended, TurnEnded)
    assert (ended.happened, ended.in_doubt) == (("s:1:call_1_1_1",), ("s:1:call_1_1_2",))


# --- what ends things -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", get_args(CallState))
def test_a_deleted_session_ends_its_turn_and_starts_nothing(state: CallState) -> None:
    s = msgspec.structs.replace(a_session(a_call(state)), deleted=True)
    assert kind(decide(s, SPEC, now=NOW, epoch=1)) == EACH_STATE[state][1]
    resting = Session("s", turns=1, deleted=True)
    assert decide(resting, SPEC, now=NOW, epoch=1) == Rest("deleted")


@pytest.mark.parametrize("frozen", [None, "ada"])
def test_what_is_said_to_a_deleted_session_is_answered_by_a_turn_that_is_cancelled(frozen: str | None) -> None:
    """Whoever waits for it hears so; nothing starts."""
    said = Session("s", turns=1, queue=queue("queue"), deleted=True, frozen=frozen)
    action = decide(said, SPEC, now=NOW, epoch=1)
    assert kind(action) == "TurnStarted"
    begun = msgspec.structs.replace(said, turns=2, turn=Turn(2, NOW, 9), queue=())
    assert decide(begun, SPEC, now=NOW, epoch=1) == Note(TurnEnded(2, "cancelled", "the session was deleted"))


@pytest.mark.parametrize(("replay", "follows"), [("safe", "ToolReturned"), ("keyed", "ToolLost")])
def test_a_call_whose_workers_die_is_not_started_for_ever(replay: Replay, follows: str) -> None:
    last = a_session(a_call("running", replay, attempt=STARTS_MAX))
    assert kind(decide(last, SPEC, now=NOW, epoch=2)) == follows
    before = a_session(a_call("running", replay, attempt=STARTS_MAX - 1))
    action = decide(before, SPEC, now=NOW, epoch=2)
    assert isinstance(action, RunTool)
    assert action.event.attempt == STARTS_MAX
    assert decide(last, SPEC, now=NOW, epoch=1) == Rest("running")
