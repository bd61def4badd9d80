"""Laws of the fold: total, the same from anywhere, blind to what was erased."""

from __future__ import annotations

import msgspec
import pytest
from any_journal import any_events, any_journals
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Text
from remanence.core.builtins import ASK_HUMAN
from remanence.core.decide import CallModel, Rest, RunTool, decide
from remanence.core.session import evolve, fold
from remanence.core.snapshots import decode_snapshot, encode_snapshot
from remanence.core.state import Session, status_of, waiting_on
from remanence.core.summary import summary_of
from remanence.events import (
    KINDS,
    ApprovalExpired,
    CallJudged,
    CancelAsked,
    Event,
    ModelReplied,
    QuestionAsked,
    Recorded,
    SessionUpgraded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    TurnEnded,
    TurnStarted,
    decode_event,
    encode_event,
    skeleton,
)
from remanence.spec import AgentSpec, AllowRule, AskRule, ToolSpec
from remanence.testing.journals import NOW, Case, approved, called, heard, replied, returned, wants
from remanence.testing.journals import given as given_journal

SPEC = AgentSpec(
    "a",
    "scripted",
    tools=(ToolSpec("look", replay="safe"), ToolSpec("post", replay="keyed"), ToolSpec("pay"), ASK_HUMAN),
    rules=(AllowRule("*"), AskRule("pay", "cents > 50", approvers=("grace", "boss"), expires_s=60)),
)


@given(any_journals())
def test_every_prefix_of_any_journal_folds(records: tuple[Recorded, ...]) -> None:
    s = Session("s")
    for record in records:
        s = evolve(s, record)
        assert (s.head, s.at) == (record.position, record.at)
        assert status_of(s)
        assert isinstance(waiting_on(s), str)
        assert summary_of(s, SPEC).turns == s.turns


@given(any_journals(), st.integers(0, 40))
def test_a_snapshot_and_the_rest_fold_to_the_same_state(records: tuple[Recorded, ...], cut: int) -> None:
    s = fold(Session("s"), records[:cut])
    if s.turn is not None:
        with pytest.raises(ValueError, match="between turns"):
            encode_snapshot(s)
        return
    restored = decode_snapshot(encode_snapshot(s), s.id)
    assert restored is not None
    assert restored == s
    assert fold(restored, records[cut:]) == fold(Session("s"), records)


@given(any_events)
def test_every_event_survives_its_bytes(event: Event) -> None:
    payload = encode_event(event)
    assert decode_event(payload) == event
    assert encode_event(decode_event(payload)) == payload


@given(any_journals())
def test_what_was_erased_decides_nothing(records: tuple[Recorded, ...]) -> None:
    """A journal of skeletons folds to the same positions, counters, states and dates."""
    erased = tuple(msgspec.structs.replace(record, event=skeleton(record.event), redacted=True) for record in records)
    assert _bones(fold(Session("s"), erased)) == _bones(fold(Session("s"), records))


def _bones(s: Session) -> object:
    """The state without words, arguments and what is bound to them."""
    plain = msgspec.to_builtins(s)
    for name in ("frozen", "cancel"):
        plain[name] = plain[name] is not None
    plain["metadata"] = plain["title"] = None
    for doubt in plain["doubts"]:
        doubt["reason"] = ""
    turn = plain["turn"]
    if turn is None:
        return plain
    turn["cancel"] = turn["cancel"] is not None
    turn["repeats"] = sum(count for _, count in turn["repeats"])
    if turn["model"]:
        turn["model"]["failure"] = ""
    for call in turn["calls"]:
        call |= {"arguments": "", "digest": "", "reason": "", "result": (), "erased": False}
    return plain


def test_a_skeleton_says_nothing() -> None:
    secret = "the secret"
    events: tuple[Event, ...] = (
        heard(secret),
        replied("model_1_1", secret, wants("pay", to=secret)),
        returned("call_1_1_1", secret),
        ToolResolved("call_1_1_1", "happened", "grace", (Text(secret),), note=secret),
        ToolLost("call_1_1_1", "s:1:call_1_1_1", "pay", f"it failed with {secret}"),
        TurnEnded(1, "failed", f"model: {secret}"),
        CancelAsked("ada", secret),
    )
    for event in events:
        assert secret.encode() in encode_event(event)
        assert secret.encode() not in encode_event(skeleton(event))


_NAMES = (
    "agent answers arguments by call effect_key follows input kind memory model name policy project prompt "
    "provider_id rule scope seal service_tier source source_session stop store supersedes tool user version"
)
NAMES = frozenset(_NAMES.split())
"""Fields of text that a skeleton keeps: ids, names, digests, kinds. Whoever adds a field decides here what it is."""


def test_every_field_of_text_is_a_name_or_is_erased() -> None:
    for kind in KINDS.values():
        for field in msgspec.structs.fields(kind):
            if field.type not in (str, str | None) or field.name in NAMES | {"blob"}:
                continue
            others = {f.name: _sample(f) for f in msgspec.structs.fields(kind) if f.required}
            event = kind(**{**others, field.name: "the secret"})
            assert getattr(skeleton(event), field.name) == "[redacted]", f"{kind.__name__}.{field.name}"


def _sample(field: msgspec.structs.FieldInfo) -> object:
    return {int: 1, str: "x"}.get(field.type, ())


def test_a_snapshot_of_another_shape_is_no_snapshot() -> None:
    assert decode_snapshot(msgspec.msgpack.encode({"id": 5}), "s") is None
    assert decode_snapshot(b"\xc1 not msgpack", "s") is None
    assert decode_snapshot(None, "s") is None
    assert decode_snapshot(b"", "s") is None


def test_a_snapshot_that_was_flipped_anywhere_is_not_believed() -> None:
    s = Session("s", agent="a", version="v" * 64, title="Grüße", metadata={"tag": "red"}, head=120, turns=7)
    kept = encode_snapshot(s)
    for bit in range(8 * len(kept)):
        flipped = bytearray(kept)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_snapshot(bytes(flipped), "s") is None, bit
    for end in range(len(kept)):
        assert decode_snapshot(kept[:end], "s") is None, end
    assert decode_snapshot(kept, "s", 120) == s
    assert decode_snapshot(kept, "s", 119) is None, "it was put in another place"
    assert decode_snapshot(msgspec.msgpack.encode(s), "s") == s, "as releases wrote it that gave it no checksum"
    assert decode_snapshot(msgspec.msgpack.encode(s).replace("ü".encode(), b"\xfc\xfc"), "s") is None


# --- inputs and cancels -----------------------------------------------------------------------------------------------


def test_an_input_answers_the_question_it_names_or_the_only_one() -> None:
    said = replied("model_1_1", wants("ask_human", question="which?"))
    asked = QuestionAsked("call_1_1_1", "which?")
    case = given_journal(SPEC, heard("hello"), TurnStarted(1, (2,)), called("model_1_1"), said, asked)
    for answer in (heard("red", answers="call_1_1_1"), heard("red"), heard("red", if_busy="steer")):
        s = case.when(answer).state
        assert _state_of(s, "call_1_1_1") == "settled"
        assert s.queue == ()
    for other in (heard("red", answers="call_9_9_9"), heard("red", if_busy="interrupt")):
        s = case.when(other).state
        assert _state_of(s, "call_1_1_1") == "question"
        assert [queued.position for queued in s.queue] == [7]


def test_with_two_questions_open_only_a_named_answer_counts() -> None:
    said = replied("model_1_1", wants("ask_human", "c1", question="a"), wants("ask_human", "c2", question="b"))
    asked = (QuestionAsked("c1", "a"), QuestionAsked("c2", "b"))
    case = given_journal(SPEC, heard("hello"), TurnStarted(1, (2,)), called("model_1_1"), said, *asked)
    assert len(case.when(heard("red")).state.queue) == 1
    s = case.when(heard("red", answers="c2")).state
    assert (_state_of(s, "c1"), _state_of(s, "c2"), s.queue) == ("question", "settled", ())


@pytest.mark.parametrize("turn", [None, 1])
def test_a_cancel_finds_the_input_still_queued_and_stops_the_turn_that_takes_it(turn: int | None) -> None:
    case = given_journal(SPEC, heard("hello")).when(CancelAsked("ada", "never mind", turn))
    assert case.state.cancel == "ada: never mind"
    case = case.when(TurnStarted(1, (2,)))
    assert case.state.cancel is None
    case.then(TurnEnded(1, "cancelled", "ada: never mind"), Rest("idle"))


def test_a_cancel_of_another_turn_changes_nothing() -> None:
    waiting = given_journal(SPEC, heard("hello"))
    running = waiting.when(TurnStarted(1, (2,)))
    idle = given_journal(SPEC)
    assert waiting.when(CancelAsked("ada", turn=2)).state.cancel is None
    assert running.when(CancelAsked("ada", turn=2)).state.turn == running.state.turn
    assert idle.when(CancelAsked("ada")).state.cancel is None


# --- words that come too late -----------------------------------------------------------------------------------------


def _asked_to_pay(cents: int = 100) -> Case:
    case = given_journal(SPEC, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=cents))).then(CallJudged, Rest)
    assert _state_of(case.state, "call_1_1_1") == "asked"
    return case


def test_an_approval_counts_in_time_and_from_somebody_who_was_asked() -> None:
    case = _asked_to_pay()
    yes = approved(case.state, "call_1_1_1", by="grace")
    late = NOW + 60_000_000
    assert _state_of(case.when(yes).state, "call_1_1_1") == "approved"
    assert _state_of(case.when(yes, now=late - 1).state, "call_1_1_1") == "approved"
    assert _state_of(case.when(yes, now=late).state, "call_1_1_1") == "asked"
    assert _state_of(case.when(approved(case.state, "call_1_1_1", by="mallory")).state, "call_1_1_1") == "asked"
    case.when(yes, now=late).then(ApprovalExpired("call_1_1_1"), ToolReturned, CallModel("model_1_2", 1))


def test_a_no_counts_always() -> None:
    case = _asked_to_pay()
    no = msgspec.structs.replace(approved(case.state, "call_1_1_1", by="grace"), decision="deny", note="too much")
    for refused in (case.when(no), case.when(approved(case.state, "call_1_1_1")).when(no)):
        call = refused.state.call("call_1_1_1")
        assert call is not None
        assert (call.state, call.reason) == ("refused", "denied by grace: too much")


def test_the_same_person_twice_is_one_person() -> None:
    spec = msgspec.structs.replace(SPEC, rules=(AskRule("pay", needed=2),))
    case = given_journal(spec, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=1))).then(CallJudged)
    case = case.when(approved(case.state, "call_1_1_1", by="grace"))
    assert _state_of(case.when(approved(case.state, "call_1_1_1", by="grace")).state, "call_1_1_1") == "asked"
    assert _state_of(case.when(approved(case.state, "call_1_1_1", by="boss")).state, "call_1_1_1") == "approved"


def test_a_word_on_a_call_that_started_changes_nothing() -> None:
    case = _asked_to_pay()
    yes = approved(case.state, "call_1_1_1", by="grace")
    no = msgspec.structs.replace(yes, decision="deny")
    running = case.when(yes).then(RunTool)
    for late in (yes, no, msgspec.structs.replace(yes, by="boss")):
        assert running.when(late).state.turn == running.state.turn
    closed = running.when(returned("call_1_1_1", "paid"))
    assert closed.when(no).state.turn == closed.state.turn


def test_a_judgement_under_another_policy_starts_the_approvals_over_and_counts_the_call_once() -> None:
    case = _asked_to_pay()
    strict = msgspec.structs.replace(SPEC, rules=(AskRule("pay", needed=2),))
    case = case.when(approved(case.state, "call_1_1_1", by="grace"))
    case = case.when(SessionUpgraded("v2", "p2"), spec=strict).then(CallJudged, Rest("asked"))
    case = case.when(approved(case.state, "call_1_1_1", by="boss")).then(Rest("asked"))
    case = case.when(approved(case.state, "call_1_1_1", by="grace")).then(RunTool)
    assert case.state.turn is not None
    assert [count for _, count in case.state.turn.repeats] == [1]


def test_a_call_whose_reply_was_redacted_never_starts_on_what_is_left() -> None:
    case = _asked_to_pay()
    case = case.when(approved(case.state, "call_1_1_1", by="grace"))
    erased = tuple(
        msgspec.structs.replace(r, event=skeleton(r.event), redacted=True) if isinstance(r.event, ModelReplied) else r
        for r in case.records
    )
    after = msgspec.structs.replace(case, records=erased, state=fold(Session("s"), erased))
    case.then(RunTool)
    after.then(ToolReturned, CallModel)


def test_a_doubt_is_settled_once() -> None:
    case = given_journal(SPEC, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=1))).then(CallJudged, RunTool)
    assert _state_of(case.when(ToolResolved("call_1_1_1", "run_again", "grace")).state, "call_1_1_1") == "running"
    doubt = case.when(epoch=2).then(ToolLost)
    assert [d.effect_key for d in doubt.state.doubts] == ["s:1:call_1_1_1"]
    closed = doubt.when(ToolResolved("call_1_1_1", "happened", "grace", (Text("paid"),))).then(ToolReturned)
    assert closed.state.doubts == ()
    for word in ("run_again", "give_up", "happened"):
        assert _state_of(closed.when(ToolResolved("call_1_1_1", word, "boss")).state, "call_1_1_1") == "returned"


def test_a_call_is_closed_once() -> None:
    case = given_journal(SPEC, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=1))).then(CallJudged, RunTool)
    once = case.when(returned("call_1_1_1", "paid"))
    twice = once.when(returned("call_1_1_1", "paid again"))
    assert twice.state.turn == once.state.turn
    assert twice.state.ledger == once.state.ledger
    assert once.state.turn is not None
    assert once.state.turn.happened == ("s:1:call_1_1_1",)


def test_the_doubts_of_a_closed_turn_stay_until_they_are_settled() -> None:
    case = given_journal(SPEC, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=1))).then(CallJudged, RunTool)
    case = case.when(CancelAsked("ada"), epoch=2).then(ToolLost, ToolReturned, TurnEnded, Rest)
    ended = case.events[-1]
    assert isinstance(ended, TurnEnded)
    assert (ended.happened, ended.in_doubt) == ((), ("s:1:call_1_1_1",))
    assert case.decide() == Rest("idle", reconcile=("call_1_1_1",))
    assert waiting_on(case.state) == "doubt"
    assert decide(case.state, SPEC, now=NOW, epoch=3) == Rest("idle", reconcile=("call_1_1_1",))
    for outcome in ("happened", "give_up", "run_again"):
        assert case.when(ToolResolved("call_1_1_1", outcome, "grace")).state.doubts == ()


def test_a_doubt_that_was_asked_about_in_vain_is_looked_up_again_at_its_date() -> None:
    case = given_journal(SPEC, heard("pay"), TurnStarted(1, (2,)), called("model_1_1"))
    case = case.when(replied("model_1_1", wants("pay", cents=1))).then(CallJudged, RunTool)
    case = case.when(epoch=2).then(ToolLost)
    (doubt,) = case.state.doubts
    in_vain = ToolLost(doubt.call, doubt.effect_key, doubt.tool, "no answer", 1, NOW + 5)
    ended = case.when(CancelAsked("ada")).then(ToolReturned, TurnEnded, Rest)
    for before, why in ((case, "in_doubt"), (ended, "idle")):
        after = before.when(in_vain)
        (told,) = after.state.doubts
        assert (told.reason, told.asked, told.retry_at, told.failure) == (doubt.reason, 1, NOW + 5, "no answer")
        assert decide(after.state, SPEC, now=NOW, epoch=2) == Rest(why, wake_at=NOW + 5)
        assert decide(after.state, SPEC, now=NOW + 5, epoch=2) == Rest(why, reconcile=(doubt.call,))
        last = after.when(ToolLost(doubt.call, doubt.effect_key, doubt.tool, "no answer", 2))
        assert decide(last.state, SPEC, now=NOW + 9, epoch=3) == Rest(why)
        settled = after.when(ToolResolved(doubt.call, "give_up", "grace"))
        assert settled.when(in_vain).state.doubts == ()


def _state_of(s: Session, call: str) -> str:
    known = s.call(call)
    assert known is not None
    return known.state
