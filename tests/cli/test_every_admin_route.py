"""Every route of `/admin/v1` is used by the command line.

Commands are run beside a real server, and whoever stands between the two hears which routes they ask. What the OpenAPI
document lists, and no command has asked with success, fails the test: a new route needs a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from cli_project import AGENT, BIG_REFUND, Run, begun
from overhearing import Asked, Overhearing
from serving_process import Running, get

FACE = "/admin/v1"
WITHOUT_A_COMMAND: dict[str, str] = {}
"""Routes that no command shall ask, such as `POST /admin/v1/thing`, each with the reason."""


@pytest.fixture
def between(project: Path) -> Iterator[Overhearing]:
    """A server with a worker, which commands find by the address of whoever hears them."""
    (project / "agent.py").write_text(AGENT.replace("sleep_until])", "sleep_until], memory=True)"))
    with Running("serve", "--port", "0") as server:
        server.line("Worker +up to")
        place = project / ".remanence" / "server.json"
        said = msgspec.json.decode(place.read_bytes())
        with Overhearing(said["url"]) as between:
            place.write_bytes(msgspec.json.encode({**said, "url": between.url}))
            yield between


def routes_of(document: dict[str, Any]) -> list[str]:
    """The operations of the face, as `GET /admin/v1/sessions/{session}`."""
    paths = document["paths"].items()
    return [f"{method.upper()} {path}" for path, ways in paths if path.startswith(FACE) for method in ways]


def route_of(routes: Sequence[str], asked: Asked) -> str | None:
    """The route a request was for, the one with the fewest parameters that fits; None of what is not of this face."""
    path = urlsplit(asked.path).path
    found = [route for route in routes if _fits(route, f"{asked.method} {path}")]
    assert found or not path.startswith(FACE), asked
    return min(found, key=lambda route: route.count("{")) if found else None


def uncalled(routes: Sequence[str], heard: Sequence[Asked]) -> list[str]:
    """The routes that nobody asked with success."""
    called = {route_of(routes, asked) for asked in heard if asked.status < 400}
    return [route for route in routes if route not in called and route not in WITHOUT_A_COMMAND]


def _fits(route: str, said: str) -> bool:
    pieces = [re.escape(piece) for piece in re.split(r"\{\w+\}", route)]
    return re.fullmatch("[^/]+".join(pieces), said) is not None


def test_every_route_is_asked_by_a_command(project: Path, cli: Run, between: Overhearing) -> None:
    _, document = get(f"{between.url}/openapi.json")
    routes = routes_of(document)
    assert len(routes) > 60
    for use in (_agents, _sessions, _people, _steering, _money_and_keys, _moving, _memory, _erasing, _figures):
        use(cli, project)
    assert uncalled(routes, between.heard) == []
    for route in routes:
        others = [asked for asked in between.heard if route_of(routes, asked) != route]
        assert uncalled(routes, others) == [route], "what is taken away is missed"


def _did(cli: Run, *words: str) -> Any:
    """Run a command that succeeds; its JSON."""
    ran = cli(*words, "-o", "json")
    assert ran.code == 0, (words, ran.err)
    return ran.json


def _agents(cli: Run, project: Path) -> None:
    assert _did(cli, "agents", "push")[0]["number"] == 1
    (project / "clerk.toml").write_text('name = "shop"\nmodel = "default"\ninstructions = "Sell."\n')
    _did(cli, "agents", "push", "clerk.toml")
    assert [(one["agent"], one["number"]) for one in _did(cli, "agents", "list")] == [("shop", 2)]
    assert [one["number"] for one in _did(cli, "agents", "versions", "shop")] == [1, 2]
    assert _did(cli, "agents", "diff", "shop")["b"] == "shop@2"
    assert _did(cli, "deploy", "list", "shop")[0]["declared"] == "code"


def _sessions(cli: Run, _: Path) -> None:
    session = begun(cli, "hello")
    assert _did(cli, "sessions", "list", "--agent", "shop")[0]["session"] == session
    assert _did(cli, "sessions", "get", session)["last_turn"] == "completed"
    records = _did(cli, "sessions", "tail", session)
    call = next(record["event"]["call"] for record in records if record["kind"] == "ModelCalled")
    assert _did(cli, "sessions", "prompt", session, call)["exact"] is True
    assert _did(cli, "sessions", "fork", session, "--turn", "1")["fork_of"] == session


def _people(cli: Run, _: Path) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert cli("attach", session).code == 5
    assert _did(cli, "approvals", "list")[0]["session"] == session
    assert _did(cli, "approvals", "deny", session, "--yes")["decision"] == "deny"
    session = begun(cli, '/tool ask_human {"question": "Which?"}', 5)
    assert _did(cli, "approvals", "answer", session, "the red one")["session"] == session
    session = begun(cli, '/tool wire {"cents": 1}', 5)
    assert _did(cli, "doubts", "list")[0]["session"] == session
    assert _did(cli, "doubts", "resolve", session, "--give-up")["decision"] == "give_up"


def _steering(cli: Run, _: Path) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert _did(cli, "sessions", "freeze", session)["frozen"] is True
    assert _did(cli, "sessions", "thaw", session)["frozen"] is False
    assert _did(cli, "sessions", "freeze", "--agent", "shop")["scope"] == "agent:shop"
    assert [one["scope"] for one in _did(cli, "sessions", "freezes")] == ["agent:shop"]
    assert "once the freeze is lifted" in cli("sessions", "send", begun(cli, "hello", 5), "more").out
    assert _did(cli, "sessions", "thaw", "--agent", "shop")["frozen"] is False
    assert _did(cli, "sessions", "cancel", session)["session"] == session


def _money_and_keys(cli: Run, _: Path) -> None:
    assert _did(cli, "budgets", "set", "agent:shop", "--usd", "5")["spent"] >= 0
    assert len(_did(cli, "budgets", "list")) == 1
    assert _did(cli, "cost")[0]["key"] == {"agent": "shop"}
    key = _did(cli, "keys", "create", "ci")["key"]["id"]
    assert key in [one["id"] for one in _did(cli, "keys", "list")]
    assert _did(cli, "keys", "revoke", key)["id"] == key


def _moving(cli: Run, _: Path) -> None:
    session = begun(cli, "hello")
    assert cli("sessions", "export", session, "one.remanence").code == 0
    assert _did(cli, "sessions", "import", "one.remanence", "--as-session", "copy")["session"] == "copy"
    assert _did(cli, "sessions", "verify", session)[0]["faults"] == 0
    assert _did(cli, "sessions", "verify", session, "--mend")[0]["faults"] == 0


def _memory(cli: Run, _: Path) -> None:
    note = _did(cli, "memory", "keep", "Lunch is at noon.", "--scope", "user:ada")["memory"]
    _did(cli, "memory", "keep", "Be brief.", "--scope", "project", "--block", "style")
    assert _did(cli, "memory", "search", "when is lunch?", "--kind", "note")[0]["memory"]["memory"] == note
    assert len(_did(cli, "memory", "search", "--kind", "note")) == 1
    assert _did(cli, "memory", "edit", note, "Lunch is at one.")["version"] == 2
    assert _did(cli, "memory", "undo", note)["version"] == 3
    assert _did(cli, "memory", "show", note)["text"] == "Lunch is at noon."
    assert len(_did(cli, "memory", "history", note)) == 3
    assert _did(cli, "memory", "forget", note)["closed_at"] is not None
    assert _did(cli, "memory", "export")
    _did(cli, "memory", "consolidate", "--model", "scripted")
    _did(cli, "memory", "rebuild")
    _did(cli, "memory", "stores", "create", "team")
    assert "team" in [store["store"] for store in _did(cli, "memory", "stores", "list")]
    _did(cli, "memory", "grant", "team", "agent:shop", "--read", "project")
    assert len(_did(cli, "memory", "grants")) == 1
    _did(cli, "memory", "attach", "team", "agent:shop")
    assert _did(cli, "memory", "attachments")


def _erasing(cli: Run, _: Path) -> None:
    notes = [_did(cli, "memory", "keep", text, "--scope", "user:ada")["memory"] for text in ("One.", "Two.")]
    why = ("--reason", "asked to")
    _did(cli, "memory", "hold", "user:ada", *why)
    assert cli("memory", "redact", notes[0], *why, "--yes").code == 4
    assert len(_did(cli, "memory", "holds")) == 1
    _did(cli, "memory", "unhold", "user:ada")
    assert _did(cli, "memory", "redact", notes[0], *why, "--yes")["order"]["what"] == "memory"
    order = _did(cli, "memory", "erase", "memory", notes[1], *why, "--yes")["order"]["id"]
    assert len(_did(cli, "memory", "receipts")) == 2
    assert all(check["holds"] for check in _did(cli, "memory", "verify-erasure", order))


def _figures(cli: Run, _: Path) -> None:
    assert _did(cli, "db", "stats")["records"] > 0
    assert "remanence_process_records_total" in cli("metrics").out
