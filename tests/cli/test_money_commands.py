"""`cost` and `budgets`: every call is counted once, and a call without a price is never a free one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, begun
from inline_snapshot import snapshot

from remanence.app import Remanence
from remanence.commands.usage import bring_up_to_date, usage
from remanence.content import Text, Usage
from remanence.events import InputReceived, ModelCalled, ModelFailed, TurnStarted
from remanence.ports import UsageQuery, UsageRow, Write
from remanence.spec import AgentSpec
from remanence.testing.scripted import Scripted, fails, says
from remanence.testing.wire import WireServer

# --- cost -------------------------------------------------------------------------------------------------------------


def priced(cli: Run, served: WireServer, *prices: str) -> None:
    add = ("models", "add", "fast", "--base-url", f"{served.url}/v1", "--model", "tiny", "--use", "--replace")
    assert cli(*add, *prices).code == 0


def test_nothing_was_spent(project: Path, cli: Run) -> None:
    ran = cli("cost")
    assert (ran.code, ran.out, ran.err) == (0, "", "Nothing was spent.\n")


def test_cost(project: Path, cli: Run, served: WireServer) -> None:
    priced(cli, served, "--price-input", "10", "--price-output", "100")
    session = begun(cli, "hello")
    cli("sessions", "send", session, "more", "--wait")
    begun(cli, "hello")
    assert cli("cost", "-o", "json").json == snapshot(
        [
            {
                "key": {"agent": "shop"},
                "calls": 3,
                "input_tokens": 300,
                "output_tokens": 60,
                "cached_tokens": 0,
                "usd_micros": 9000,
                "unpriced_calls": 0,
            }
        ]
    )
    assert cli("cost", "--by", "user,model", "-o", "json").json[0]["key"] == snapshot({"user": "ada", "model": "tiny"})
    assert [row["calls"] for row in cli("cost", "--by", "session", "-o", "json").json] == [2, 1]
    lines = cli("cost", "--by", "session").out.splitlines()
    assert lines[0].split() == ["SESSION", "CALLS", "TOKENS", "IN", "CACHED", "TOKENS", "OUT", "COST", "NO", "PRICE"]
    assert lines[-1].split() == ["all", "3", "300", "0", "60", "$0.009"]


def test_calls_without_a_price_are_shown(project: Path, cli: Run, served: WireServer) -> None:
    priced(cli, served)
    begun(cli, "hello")
    ran = cli("cost")
    assert ran.out.splitlines()[1].split() == ["shop", "1", "100", "0", "20", "$0.00", "1"]
    assert "Calls without a known price are not in COST" in ran.err


def test_cost_since(project: Path, cli: Run) -> None:
    begun(cli, "hello")
    for since in ("1h", "7d", "2020-01-01", "2020-01-01T10:00:00+02:00"):
        assert len(cli("cost", "--since", since, "-o", "json").json) == 1, since
    assert cli("cost", "--since", "2100-01-01", "-o", "json").json == []
    ran = cli("cost", "--since", "yesterday")
    assert ran.code == 2
    assert "write 7d" in ran.err
    assert cli("cost", "--by", "weather").code == 2
    assert cli("cost", "--project", "other", "-o", "json").json == []
    assert len(cli("cost", "--project", "other", "--all-projects", "-o", "json").json) == 1


AGENT = AgentSpec("clerk", "m", "Be brief.")


async def test_usage_is_counted_once(tmp_path: Path) -> None:
    model = Scripted([fails(says("one")), says("two"), says("three")])
    url = f"sqlite:///{tmp_path}/usage.db"
    async with Remanence(url, models={"m": model}) as rt:
        session = await rt.open(AGENT, user="ada")
        await session.send("a")
        caller = rt.caller
        assert await bring_up_to_date(caller) == []
        first, _ = await usage(caller, UsageQuery(by=("user", "model")))
        await session.send("b")
        forked = await session.fork(turn=1)
        await forked.send("c")
        rows, unread = await usage(caller, UsageQuery(by=("user", "model")))
        again, _ = await usage(caller, UsageQuery(by=("user", "model")))
        total = sum([(await s.state()).ledger.usage.total_tokens for s in (session, forked)])
    assert [(row.key, row.calls) for row in first] == [(("ada", "m"), 1)]
    # The failure cost nothing and is no entry; what a fork inherits was counted where it was written.
    assert [(row.key, row.calls) for row in rows] == [(("ada", "m"), 3)]
    assert rows == again
    assert rows[0].usage.total_tokens == total
    assert unread == []


async def test_a_call_that_was_lost_is_counted_at_its_reservation(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/usage.db", worker=False) as rt:
        session = await rt.open(AGENT)
        lost = ModelFailed("model_1_1", "lost", "the worker died", cost_usd_micros=70, billed_tokens=900)
        free = ModelFailed("model_1_1", "rate_limited", "too fast")
        called = ModelCalled("model_1_1", 1, "openai:x", 1, 2, "d")
        started = TurnStarted(1, (2,))
        events = (InputReceived("in1", (Text("a"),)), started, called)
        await rt.database.store.append(Write(session.id, events, at=10, actor="w"))
        # The intent is counted on its own first: the outcome must find its model all the same.
        await bring_up_to_date(rt.caller)
        await rt.database.store.append(Write(session.id, (free, lost), at=20, actor="w"))
        rows, _ = await usage(rt.caller, UsageQuery(by=("model",)))
    assert rows == [UsageRow(("openai:x",), 1, Usage(input_tokens=900), 70, 0)]


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_budgets(project: Path, cli: Run) -> None:
    ran = cli("budgets", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "remanence budgets set" in ran.err
    assert cli("budgets", "set", "agent:shop", "--usd", "2.50", "-o", "json").json == snapshot(
        {"scope": "agent:shop", "unit": "usd_micros", "limit": 2500000, "spent": 0, "reserved": 0}
    )
    assert cli("budgets", "raise", "agent:shop", "--usd", "0.50").out == (
        "agent:shop: at most $3.00, $0.00 used so far. Sessions that paused at it go on.\n"
    )
    assert cli("budgets", "raise", "agent:shop", "--usd", "5", "--to", "-o", "json").json["limit"] == 5_000_000
    cli("budgets", "set", "user:ada", "--tokens", "100000")
    assert cli("budgets", "list").out.splitlines()[1].split() == ["agent:shop", "$5.00", "$0.00", "$0.00", "$5.00"]
    assert [b["scope"] for b in cli("budgets", "list", "user:ada", "-o", "json").json] == ["user:ada"]


def test_a_budget_counts(project: Path, cli: Run) -> None:
    cli("budgets", "set", "agent:shop", "--tokens", "100000")
    begun(cli, "hello")
    budget = cli("budgets", "list", "-o", "json").json[0]
    assert 0 < budget["spent"] < 1000
    assert budget["reserved"] == 0


def test_a_budget_of_the_last_session(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    assert cli("budgets", "set", "session:last", "--tokens", "5", "-o", "json").json["scope"] == f"session:{session}"
    assert cli("sessions", "send", session, "more", "--wait").code == 5


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("set", "agent:shop"), 2),
        (("set", "agent:shop", "--usd", "1", "--tokens", "1"), 2),
        (("set", "agent:shop", "--usd", "much"), 2),
        (("set", "agent:shop", "--tokens", "-1"), 2),
        (("set", "shop", "--usd", "1"), 2),
        (("set", "session:nowhere", "--usd", "1"), 3),
        (("raise", "agent:shop", "--usd", "1"), 3),
    ],
)
def test_a_budget_that_makes_no_sense(project: Path, cli: Run, args: tuple[str, ...], code: int) -> None:
    ran = cli("budgets", *args)
    assert (ran.code, ran.out) == (code, "")
    assert "Traceback" not in ran.err
    assert cli("budgets", "list", "-o", "json").json == []


@pytest.mark.parametrize("amount", ["abc", "nan", "-1", "0.0000001"])
def test_an_amount_that_is_none_changes_nothing_and_says_so(project: Path, cli: Run, amount: str) -> None:
    assert cli("budgets", "set", "agent:shop", "--usd", "2").code == 0
    for verb in ("set", "raise"):
        ran = cli("budgets", verb, "agent:shop", "--usd", amount)
        assert ran.code == 2
        assert "Nothing was changed" in ran.err
    assert [budget["limit"] for budget in cli("budgets", "list", "-o", "json").json] == [2_000_000]


@pytest.mark.parametrize("amount", [("1", "--to"), ("0", "--to"), ("0",)])
def test_a_budget_is_not_raised_downwards(project: Path, cli: Run, amount: tuple[str, ...]) -> None:
    cli("budgets", "set", "agent:shop", "--usd", "2")
    ran = cli("budgets", "raise", "agent:shop", "--usd", *amount)
    assert ran.code == 2
    assert "would not raise it" in ran.err


def test_a_call_nobody_has_a_price_for_does_not_leave_under_a_budget(
    project: Path, cli: Run, served: WireServer
) -> None:
    agent = project / "agent.py"
    agent.write_text(agent.read_text().replace('model="default"', 'model="tiny"'))
    assert cli("models", "add", "tiny", "--base-url", f"{served.url}/v1").code == 0
    assert cli("budgets", "set", "agent:shop", "--usd", "1").code == 0
    ran = cli("run", "shop", "hello")
    assert ran.code == 5
    assert "The budget of agent:shop holds it up: no price is known for tiny" in ran.err
    assert "give it prices under [models.NAME] in remanence.toml, then raise the budget" in ran.err
    assert served.requests == []
    prices = ("--price-input", "1", "--price-output", "2", "--replace")
    assert cli("models", "add", "tiny", "--base-url", f"{served.url}/v1", *prices).code == 0
    command = next(line for line in ran.err.splitlines() if "budgets raise" in line)
    assert cli(*command.split()[1:]).code == 0
    assert "hello from the server" in cli("attach", "last").out


def test_a_limit_for_an_agent_that_never_ran_says_so(project: Path, cli: Run) -> None:
    ran = cli("budgets", "set", "agent:shpo", "--tokens", "5")
    assert (ran.code, "No agent called 'shpo' has run here so far" in ran.err) == (0, True)
    assert cli("run", "shop", "hello").code == 0
    assert "has run here" not in cli("budgets", "set", "agent:shop", "--tokens", "5000000").err
