"""What the tour says is true, as checks over two independent witnesses: the journal, and the ledger of the world.

A check is a pure function of what it is given and returns a `Claim`. A claim that does not hold says what was found
instead; the tour prints it, goes on, and leaves with a code other than 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from remanence.content import text_of
from remanence.demo.shop import Mail, money
from remanence.demo.world import Arrival, Refund, Sent
from remanence.events import (
    GENESIS,
    ApprovalGiven,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    Event,
    InputReceived,
    MemoryRecalled,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recorded,
    ToolLost,
    ToolResolved,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    chain_digest,
    encode_event,
    payload_digest,
)

__all__ = [
    "Claim",
    "answered_or_waiting",
    "approved_exactly",
    "arrived",
    "chained",
    "completed",
    "events",
    "forked_there",
    "in_doubt_then_resolved",
    "inputs_in_order",
    "known_from",
    "no_gap",
    "no_step_twice",
    "one_refund",
    "paid_what_was_paid",
    "reached_then_raised",
    "says",
    "sent_once",
    "stayed_under",
    "waits_for_approval",
]

Records = Sequence[Recorded]
Kind = TypeVar("Kind", bound=Event)


class Claim(msgspec.Struct, frozen=True):
    """One sentence, whether it holds, and if not what was found instead."""

    text: str
    holds: bool
    found: str = ""


def events(records: Iterable[Recorded], kind: type[Kind]) -> list[Kind]:
    return [record.event for record in records if isinstance(record.event, kind)]


# --- any journal ------------------------------------------------------------------------------------------------------


def no_gap(records: Records, seen: Sequence[int]) -> Claim:
    """A reader that stayed on the stream all the while saw every record once, in order."""
    expected = [record.position for record in records]
    text = f"A reader on the stream saw records 1 to {len(expected)}, each once, in order."
    return Claim(text, list(seen) == expected == list(range(1, len(expected) + 1)), f"it saw {list(seen)}")


def chained(records: Records) -> Claim:
    """Each record's digest covers the one before it."""
    digest, broken = GENESIS, list[int]()
    for r in records:
        payload = payload_digest(encode_event(r.event))
        digest = chain_digest(digest, payload, position=r.position, at=r.at, epoch=r.epoch, actor=r.actor)
        if digest != r.digest:
            broken.append(r.position)
            digest = r.digest
    return Claim(f"The journal's {len(records)} digests chain.", not broken, f"broken at {broken}")


def completed(records: Records, turns: int) -> Claim:
    """So many turns, every one of them completed."""
    ended = [end.status for end in events(records, TurnEnded)]
    word = "turn" if turns == 1 else "turns"
    return Claim(f"{turns} {word}, completed.", ended == ["completed"] * turns, f"{ended}")


def no_step_twice(records: Records) -> Claim:
    """The turn went on where it stood: no reply of the model was paid for twice, no model call was lost."""
    called = Counter(call.call for call in events(records, ModelCalled))
    replied = Counter(reply.call for reply in events(records, ModelReplied))
    good = set(called.values()) == {1} and called == replied and not events(records, ModelFailed)
    text = f"The turn went on at that very step: its {len(called)} model calls were made once each."
    return Claim(text, good, f"calls {dict(called)}, replies {dict(replied)}")


# --- money, mails, couriers -------------------------------------------------------------------------------------------


def arrived(text: str, arrivals: Sequence[Arrival], count: int) -> Claim:
    """How many calls reached an outside service, by its own count; `text` says what that means."""
    return Claim(text, len(arrivals) == count, f"{len(arrivals)} arrived: {[one.answer for one in arrivals]}")


def one_refund(refunds: Sequence[Refund], *, order: str, cents: int) -> Claim:
    """The ledger holds one refund of exactly this."""
    found = [(refund.order, refund.cents) for refund in refunds]
    return Claim(f"The ledger holds one refund: {money(cents)} of {order}.", found == [(order, cents)], f"{found}")


def sent_once(outbox: Sequence[Sent], recipient: str) -> Claim:
    """One mail left, and to the right address."""
    found = [sent.recipient for sent in outbox]
    return Claim(f"One mail left, to {recipient}.", found == [recipient], f"{found}")


def paid_what_was_paid(refunds: Sequence[Refund], owed: dict[str, int]) -> Claim:
    """Money moved for these orders and no others, once each, to the cent of the order book."""
    found = sorted((refund.order, refund.cents) for refund in refunds)
    text = f"{len(owed)} refunds, {money(sum(owed.values()))} in all: each is what the order book says was paid."
    return Claim(text, found == sorted(owed.items()), f"{found}")


def answered_or_waiting(mails: Sequence[Mail], outbox: Mapping[str, Sequence[Sent]], waiting: set[str]) -> Claim:
    """Every mail has one answer to its sender, or none because a person must agree first."""
    wrong = [
        mail.mail
        for mail in mails
        if [sent.recipient for sent in outbox[mail.mail]] != ([] if mail.mail in waiting else [mail.sender])
    ]
    text = f"{len(mails) - len(waiting)} of {len(mails)} mails are answered, once each, to their senders."
    return Claim(text, not wrong, f"not so for {', '.join(wrong)}")


# --- approvals --------------------------------------------------------------------------------------------------------


def waits_for_approval(waiting: set[str], expected: set[str]) -> Claim:
    """Exactly these wait for a person: no more, no fewer."""
    text = f"{len(expected)} refunds above the limit wait for a person; none of that money moved."
    return Claim(text, waiting == expected, f"waiting: {sorted(waiting)}, expected: {sorted(expected)}")


def approved_exactly(records: Records, by: str) -> Claim:
    """The call that ran is the one that was judged and approved: one digest in all three, consumed at its start."""
    asked = {judged.arguments for judged in events(records, CallJudged) if judged.verdict == "ask"}
    given = [(answer.arguments, answer.by) for answer in events(records, ApprovalGiven) if answer.decision == "approve"]
    started = [start.approved_by for start in events(records, ToolStarted) if start.approved_by]
    good = len(asked) == 1 and given == [(next(iter(asked)), by)] and started == [(by,)]
    shown = next(iter(asked), "")[:12]
    text = f"The approval is bound to the arguments' digest ({shown}...), was given by {by}, and used once."
    return Claim(text, good, f"asked {asked}, given {given}, started {started}")


# --- doubts -----------------------------------------------------------------------------------------------------------


def in_doubt_then_resolved(records: Records, by: str) -> Claim:
    """One outcome was lost, one person settled it, and the tool was started once."""
    lost = [record.position for record in records if isinstance(record.event, ToolLost)]
    resolved = [(event.outcome, event.by) for event in events(records, ToolResolved)]
    starts = len(events(records, ToolStarted))
    good = len(lost) == 1 and resolved == [("happened", by)] and starts == 1
    text = "The journal says so: started once, lost once, resolved by a person as happened."
    return Claim(text, good, f"lost at {lost}, resolved {resolved}, started {starts} times")


# --- order of inputs --------------------------------------------------------------------------------------------------


def inputs_in_order(records: Records, texts: set[str]) -> Claim:
    """Both inputs are kept, each had a turn of its own, in the order in which they were accepted."""
    inputs = {r.position: text_of(r.event.parts) for r in records if isinstance(r.event, InputReceived)}
    turns = [start.inputs for start in events(records, TurnStarted)]
    sequence = [type(r.event) for r in records if isinstance(r.event, TurnStarted | TurnEnded)]
    good = set(inputs.values()) == texts and turns == [(position,) for position in sorted(inputs)]
    good = good and sequence == [TurnStarted, TurnEnded] * len(texts)
    text = f"Both are kept (records {' and '.join(map(str, sorted(inputs)))}); each had its turn, in that order."
    return Claim(text, good, f"inputs {inputs}, turns {turns}")


# --- budgets ----------------------------------------------------------------------------------------------------------


def stayed_under(records: Records, limit: int, unit: str = "usd_micros") -> Claim:
    """At no record was more spent, or set aside for a running call, than the limit in force."""
    spent, worst = 0, list[int]()
    reserved: dict[str, int] = {}
    for record in records:
        match record.event:
            case ModelCalled(call=call):
                in_money = unit == "usd_micros"
                reserved[call] = record.event.reserved_usd_micros if in_money else record.event.reserved_tokens
            case ModelReplied(call=call) | ModelFailed(call=call):
                reserved.pop(call, None)
                spent += _spent(record.event, unit)
            case BudgetRaised(limit=raised) if record.event.unit == unit:
                limit = raised
            case _:
                pass
        if spent + sum(reserved.values()) > limit:
            worst.append(record.position)
    text = "At no record was more spent, or set aside for a running call, than the limit in force."
    return Claim(text, not worst, f"over at records {worst}")


def _spent(event: ModelReplied | ModelFailed, unit: str) -> int:
    if unit == "usd_micros":
        return event.cost_usd_micros or 0
    return event.usage.total_tokens if isinstance(event, ModelReplied) else event.billed_tokens


def reached_then_raised(records: Records) -> Claim:
    """The budget stopped the session, somebody raised it, and the same turn went on to its end."""
    kinds = [type(r.event) for r in records if isinstance(r.event, BudgetReached | BudgetRaised | TurnEnded)]
    good = kinds[-3:] == [BudgetReached, BudgetRaised, TurnEnded]
    text = "The session paused before the call it could not pay for, and went on there when the limit was raised."
    return Claim(text, good, f"{[kind.__name__ for kind in kinds]}")


# --- forks and memory -------------------------------------------------------------------------------------------------


def says(what: str, answer: str, *, wanted: Sequence[str] = (), unwanted: Sequence[str] = ()) -> Claim:
    """An answer holds these words and none of those."""
    good = all(word in answer for word in wanted) and not any(word in answer for word in unwanted)
    return Claim(what, good, f"it said: {answer}")


def forked_there(source: Records, fork: Records, at: int) -> Claim:
    """The fork has the source's records up to `at`, then only its own."""
    shared = [record.digest for record in fork if record.position <= at]
    good = shared == [record.digest for record in source if record.position <= at]
    own = [record for record in fork if record.position > at]
    good = good and bool(own) and all(record.session == own[0].session for record in own)
    text = f"The fork shares records 1 to {at} with its source, digest for digest; {len(own)} are its own."
    return Claim(text, good, f"{len(shared)} shared")


def known_from(records: Records, position: int, words: str) -> Claim:
    """The record a memory points at is where a person said it."""
    said = next((record.event for record in records if record.position == position), None)
    good = isinstance(said, InputReceived) and words in text_of(said.parts)
    session = records[0].session if records else "?"
    return Claim(f"It knows that from {session}#{position}, where the customer said so.", good, f"{said!r}")


def came_to_mind(recalled: Sequence[MemoryRecalled], session: str) -> Claim:
    """What was recalled is in the journal, by reference to the session it came from, with the reason."""
    items = [item for event in recalled for item in event.items]
    good = any(item.session == session and item.why for item in items)
    because = next((f": because of {item.why[0]}" for item in items if item.session == session and item.why), "")
    return Claim(f"The journal says what came to mind, from {session}, and why{because}.", good, f"{items}")
