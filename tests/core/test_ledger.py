"""Budgets are never overshot, because what is set aside is more than any model can count."""

from __future__ import annotations

import msgspec
import pytest
from any_journal import any_journals
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult, Usage
from remanence.core.context import Transcript, prompt_of
from remanence.core.ledger import Ledger, attempt_key, budget_scopes, input_tokens_bound, usd_to_micros
from remanence.core.session import evolve, fold
from remanence.core.state import Session
from remanence.errors import InvalidInput
from remanence.events import ModelCalled, ModelReplied, Recorded, SessionUpgraded, TurnEnded, TurnStarted
from remanence.spec import AgentSpec, Limits, ToolSpec
from remanence.testing.journals import called, heard, journal, replied

PLAIN = AgentSpec("a", "scripted", instructions="Help.", tools=(ToolSpec("look", replay="safe"),))
SMALL = msgspec.structs.replace(PLAIN, limits=Limits(window_tokens=200))
OTHER = msgspec.structs.replace(PLAIN, instructions="Help, and be careful. " * 50, tools=())


def greedy(spec: AgentSpec, messages: tuple[Message, ...]) -> int:
    """The worst tokenizer there could be: a token for each byte said, and every overhead as large as it gets."""
    fixed = len(spec.instructions.encode()) + 16
    if spec.tools:
        fixed += 1_000 + sum(50 + len(tool.name) + len(tool.description) for tool in spec.tools)
    return fixed + sum(15 + _greedy(message.parts) for message in messages)


def _greedy(parts: tuple[Part, ...]) -> int:
    total = 0
    for part in parts:
        match part:
            case Text(text=text):
                total += len(text.encode())
            case Image():
                total += 48_169
            case File(media_type=kind, data=data):
                total += len(data or "") if kind == "text/plain" and data else 1_900_000
            case ToolCall(name=name, arguments=arguments):
                total += len(name.encode()) + len(arguments.encode())
            case ToolResult(parts=inner, name=name):
                total += len(name.encode()) + _greedy(inner)
            case _:
                total += 5
    return total


@given(any_journals(size_max=60), st.sampled_from((PLAIN, SMALL)))
def test_no_call_reads_more_than_was_set_aside(records: tuple[Recorded, ...], spec: AgentSpec) -> None:
    """Whatever the journal, whatever the provider counted before: the bound of each call is over the worst count."""
    s, text, counts = Session("s"), Transcript(), 0
    for record in records:
        event = record.event
        if isinstance(event, SessionUpgraded):
            spec = OTHER if spec is PLAIN else PLAIN
        if isinstance(event, ModelCalled):
            prompt = prompt_of(text, s, spec)
            counts = greedy(spec, prompt.messages)
            assert prompt.input_tokens_bound >= counts
            window = prompt.window
            event = msgspec.structs.replace(
                event, first_turn=window.first_turn, window_from=window.from_position, skipped=window.skipped
            )
        elif isinstance(event, ModelReplied):
            event = msgspec.structs.replace(event, usage=Usage(input_tokens=counts))
        record = msgspec.structs.replace(record, event=event)
        s = evolve(s, record)
        text.add(record)


def test_a_count_of_the_version_before_an_upgrade_does_not_bound_the_next_call() -> None:
    """The reply to a call of the old version comes after the upgrade: what it counted says nothing of the new one."""
    before = (heard("hi"), TurnStarted(1, (1,)), called("model_1_1"), SessionUpgraded("v2", "p2"))
    records = journal(*before, replied("model_1_1", "hello", usage=Usage(input_tokens=40)), TurnEnded(1, "completed"))
    records = (*records, *journal(heard("and"), TurnStarted(2, (7,)), after=records))
    s, text = fold(Session("s"), records), Transcript()
    for record in records:
        text.add(record)
    prompt = prompt_of(text, s, OTHER)
    assert prompt.input_tokens_bound >= greedy(OTHER, prompt.messages) > 1_000


def test_what_was_counted_makes_the_bound_tight() -> None:
    by_bytes = input_tokens_bound(size=4_000, messages=3, counted_tokens=0, size_since=0, messages_since=0)
    counted = input_tokens_bound(size=4_000, messages=3, counted_tokens=900, size_since=100, messages_since=1)
    assert (by_bytes, counted) == (4_048, 1_016)


def test_a_ledger_adds_up() -> None:
    ledger = Ledger().with_reply(Usage(10, 5), 7).with_reply(Usage(1, 1, cached_tokens=1), None)
    assert (ledger.usage.total_tokens, ledger.usd_micros, ledger.model_calls, ledger.unpriced_calls) == (17, 7, 2, 1)
    assert attempt_key("s", "model_1_1", 2) == "s:model_1_1:2"
    assert budget_scopes(session="s", agent="a", user="", project="p") == ("session:s", "agent@p:a", "project:p")
    assert budget_scopes(session="", agent="a", user="u", project="default") == ("agent:a", "user:u", "project:default")


@pytest.mark.parametrize(("usd", "micros"), [("2.50", 2_500_000), ("$0.000001", 1), ("0", 0), ("1e3", 1_000_000_000)])
def test_money_is_read_as_micros(usd: str, micros: int) -> None:
    assert usd_to_micros(usd) == micros


@pytest.mark.parametrize("usd", ["", "free", "-1", "NaN", "Infinity", "2,50"])
def test_what_is_no_amount_of_money_is_refused(usd: str) -> None:
    with pytest.raises(InvalidInput, match="is not an amount of money"):
        usd_to_micros(usd)


def test_an_amount_that_cannot_be_counted_is_not_cut_in_silence() -> None:
    for usd in ("0.0000001", "2.5000001", str(0.1 + 0.2)):
        with pytest.raises(InvalidInput, match="finer than a millionth of a dollar"):
            usd_to_micros(usd)
