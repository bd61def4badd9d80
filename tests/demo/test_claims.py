"""The tour cannot lie: each claim holds on a true journal and a true ledger, and falls when either is tampered with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from remanence.content import Text, ToolCall, arguments_digest
from remanence.demo import claims
from remanence.demo.shop import mailbox
from remanence.demo.world import Refund, Refused, Sent, World
from remanence.events import (
    GENESIS,
    ApprovalGiven,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    Event,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    SessionOpened,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    chain_digest,
    encode_event,
    payload_digest,
)

ARGUMENTS = '{"order":"O-1001","cents":8900}'
DIGEST = arguments_digest("refund", ARGUMENTS)
KEY = "s:1:call_1_1_1"
OPENED = SessionOpened("support", "v", "p")


def journal(*facts: Event) -> list[Recorded]:
    records, digest = list[Recorded](), GENESIS
    for position, event in enumerate(facts, start=1):
        payload = payload_digest(encode_event(event))
        digest = chain_digest(digest, payload, position=position, at=position, epoch=1, actor="w")
        records.append(Recorded("s", position, position, 1, "w", event, digest))
    return records


def asked(text: str, number: int = 1) -> InputReceived:
    return InputReceived(f"in_{number}", (Text(text),))


def called(call: str, reserved: int = 0) -> ModelCalled:
    return ModelCalled(call, 1, "scripted", 1, 1, "digest", reserved_usd_micros=reserved)


def refund_journal() -> list[Recorded]:
    call = ToolCall("call_1_1_1", "refund", ARGUMENTS)
    return journal(
        OPENED,
        asked("Refund 8900 cents of order O-1001."),
        TurnStarted(1, (2,)),
        called("model_1_1"),
        ModelReplied("model_1_1", (call,)),
        CallJudged("call_1_1_1", "ask", DIGEST, "p"),
        ApprovalGiven("call_1_1_1", "approve", "you", DIGEST, "p"),
        ToolStarted("call_1_1_1", "refund", KEY, "never", approved_by=("you",)),
        ToolReturned("call_1_1_1", (Text("refund R-0001"),)),
        called("model_1_2"),
        ModelReplied("model_1_2", (Text("Done."),)),
        TurnEnded(1, "completed", happened=(KEY,)),
    )


def tampered(records: Sequence[Recorded], position: int, event: Event) -> list[Recorded]:
    return [replace(record, event=event) if record.position == position else record for record in records]


async def test_one_refund_is_one_refund(tmp_path: Path) -> None:
    with World(tmp_path / "ledger.db") as world:
        world.charge({"O-1001": 8_900})
        await world.refund(order="O-1001", cents=1_250, reference=KEY)
        assert claims.one_refund(world.refunds("s:"), order="O-1001", cents=1_250).holds
        assert claims.arrived("Refund calls", world.arrivals("s:", "payments"), 1).holds
        await world.refund(order="O-1001", cents=1_250, reference=KEY)
        broken = claims.one_refund(world.refunds("s:"), order="O-1001", cents=1_250)
        assert not broken.holds
        assert broken.found == "[('O-1001', 1250), ('O-1001', 1250)]"
        assert not claims.arrived("Refund calls", world.arrivals("s:", "payments"), 1).holds


async def test_another_amount_or_another_order_is_noticed(tmp_path: Path) -> None:
    with World(tmp_path / "ledger.db") as world:
        world.charge({"O-1001": 8_900})
        await world.refund(order="O-1001", cents=1_251, reference=KEY)
        assert not claims.one_refund(world.refunds(), order="O-1001", cents=1_250).holds
        assert not claims.one_refund(world.refunds(), order="O-1002", cents=1_251).holds
        try:
            await world.refund(order="O-1001", cents=99_999, reference=KEY)
        except Refused:
            assert len(world.arrivals()) == 2


def test_the_chain_and_the_stream_are_whole() -> None:
    records = refund_journal()
    positions = [record.position for record in records]
    assert claims.chained(records).holds
    assert claims.no_gap(records, positions).holds
    assert not claims.no_gap(records, positions[:-1]).holds
    assert not claims.no_gap(records, [*positions[:3], *positions[2:]]).holds
    assert not claims.chained(tampered(records, 9, ToolReturned("call_1_1_1", (Text("refund R-9999"),)))).holds
    assert not claims.chained(records[:4] + records[5:]).holds
    assert claims.completed(records, 1).holds
    assert not claims.completed(records[:-1], 1).holds


def test_a_repeated_model_call_is_noticed() -> None:
    records = refund_journal()
    assert claims.no_step_twice(records).holds
    assert not claims.no_step_twice([*records, records[9]]).holds
    assert not claims.no_step_twice(records[:-2]).holds


def test_an_approval_covers_one_exact_call() -> None:
    records = refund_journal()
    assert claims.approved_exactly(records, "you").holds
    other = arguments_digest("refund", '{"order":"O-1001","cents":8901}')
    assert not claims.approved_exactly(
        tampered(records, 7, ApprovalGiven("call_1_1_1", "approve", "you", other, "p")), "you"
    ).holds
    unsigned = ToolStarted("call_1_1_1", "refund", KEY, "never")
    assert not claims.approved_exactly(tampered(records, 8, unsigned), "you").holds
    assert not claims.approved_exactly([*records, records[7]], "you").holds


def test_a_doubt_is_settled_once_and_by_a_person() -> None:
    started = ToolStarted("c", "book_courier", KEY, "never")
    lost = ToolLost("c", KEY, "book_courier", "the worker died while the tool ran")
    told = ToolResolved("c", "happened", "you", (Text("booking C-0001"),))
    assert claims.in_doubt_then_resolved(journal(started, lost, told), "you").holds
    assert not claims.in_doubt_then_resolved(journal(started, lost, started, told), "you").holds
    assert not claims.in_doubt_then_resolved(journal(started, lost), "you").holds
    guessed = ToolResolved("c", "happened", "reconcile")
    assert not claims.in_doubt_then_resolved(journal(started, lost, guessed), "you").holds


def test_two_inputs_keep_their_order() -> None:
    first, second = asked("one"), asked("two", 2)
    turns = (TurnStarted(1, (2,)), TurnEnded(1, "completed"), TurnStarted(2, (3,)), TurnEnded(2, "completed"))
    assert claims.inputs_in_order(journal(OPENED, first, second, *turns), {"one", "two"}).holds
    assert not claims.inputs_in_order(journal(OPENED, first, *turns), {"one", "two"}).holds
    swapped = (TurnStarted(1, (3,)), TurnEnded(1, "completed"), TurnStarted(2, (2,)), TurnEnded(2, "completed"))
    assert not claims.inputs_in_order(journal(OPENED, first, second, *swapped), {"one", "two"}).holds
    nested = (turns[0], turns[2], turns[1], turns[3])
    assert not claims.inputs_in_order(journal(OPENED, first, second, *nested), {"one", "two"}).holds


def test_a_budget_counts_what_is_set_aside() -> None:
    reached = BudgetReached("session:s", "usd_micros", 100, 60, 50)
    raised = BudgetRaised("session:s", "usd_micros", 200, "you")
    before = (OPENED, called("a", 50), ModelReplied("a", (), cost_usd_micros=40))
    after = (called("b", 60), ModelReplied("b", (), cost_usd_micros=55), TurnEnded(1, "completed"))
    good = journal(*before, reached, raised, *after)
    assert claims.stayed_under(good, 100).holds
    assert claims.reached_then_raised(good).holds
    assert not claims.stayed_under(journal(*before, called("b", 61)), 100).holds
    assert not claims.stayed_under(journal(*before, ModelReplied("b", (), cost_usd_micros=61)), 100).holds
    assert not claims.reached_then_raised(journal(*before, reached, *after)).holds


def test_mails_are_answered_once_or_wait() -> None:
    mails = [mailbox()["M-0092"], mailbox()["M-0093"]]
    sent = Sent(1, KEY, mails[0].sender, "Re:", "x", 1)
    box: dict[str, Sequence[Sent]] = {"M-0092": [sent], "M-0093": []}
    assert claims.answered_or_waiting(mails, box, {"M-0093"}).holds
    assert not claims.answered_or_waiting(mails, box, set()).holds
    assert not claims.answered_or_waiting(mails, box | {"M-0092": [sent, sent]}, {"M-0093"}).holds
    stray = replace(sent, recipient="collect@example.net")
    assert not claims.answered_or_waiting(mails, box | {"M-0092": [stray]}, {"M-0093"}).holds
    assert claims.sent_once([sent], mails[0].sender).holds
    assert not claims.sent_once([sent, sent], mails[0].sender).holds


def test_money_moves_for_the_orders_it_should() -> None:
    refund = Refund(1, KEY, "O-1001", 8_900, 1)
    assert claims.paid_what_was_paid([refund], {"O-1001": 8_900}).holds
    assert not claims.paid_what_was_paid([refund, refund], {"O-1001": 8_900}).holds
    assert not claims.paid_what_was_paid([refund], {"O-1001": 8_901}).holds
    assert not claims.paid_what_was_paid([], {"O-1001": 8_900}).holds
    assert claims.waits_for_approval({"M-1"}, {"M-1"}).holds
    assert not claims.waits_for_approval({"M-1"}, {"M-1", "M-2"}).holds


def test_a_memory_points_at_what_a_person_said() -> None:
    records = journal(OPENED, asked("Please remember: no calls before noon"), TurnStarted(1, (2,)))
    assert claims.known_from(records, 2, "no calls before noon").holds
    assert not claims.known_from(records, 3, "no calls before noon").holds
    assert not claims.known_from(records, 2, "call at any time").holds


def test_a_fork_shares_the_past_and_nothing_else() -> None:
    source = refund_journal()
    own = replace(source[3], session="fork")
    assert claims.forked_there(source, [*source[:3], own], 3).holds
    assert not claims.forked_there(source, [*source[:2], own], 3).holds
    assert not claims.forked_there(source, source[:3], 3).holds
    assert not claims.forked_there(source, [*source[:3], own, source[4]], 3).holds
