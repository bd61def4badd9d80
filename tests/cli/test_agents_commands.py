"""`agents ...`: what is declared, registered and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, begun, masked
from inline_snapshot import snapshot

DECLARED = 'name = "clerk"\nmodel = "scripted"\ninstructions = "Be brief."\ntools = ["ask_human"]\n'


def test_list_shows_code_and_database(project: Path, cli: Run) -> None:
    assert masked(cli("agents", "list", "-o", "json").json) == snapshot(
        [
            {
                "agent": "shop",
                "number": 0,
                "version": "",
                "model": "default",
                "tools": ["refund", "wire", "slow", "ask_human", "sleep_until"],
                "at": None,
                "code": "not pushed",
            }
        ]
    )
    cli("agents", "push")
    assert [agent["code"] for agent in cli("agents", "list", "-o", "json").json] == ["current"]
    change(project)
    ran = cli("agents", "list")
    assert ran.out.splitlines()[1].split()[0:2] == ["shop", "1"]
    assert ran.out.splitlines()[1].endswith("changed")
    (project / "remanence.toml").write_text("")
    assert [agent["code"] for agent in cli("agents", "list", "-o", "json").json] == ["absent"]


def test_list_goes_on_without_code_that_is_broken(project: Path, cli: Run) -> None:
    cli("agents", "push")
    (project / "agent.py").write_text("1 / 0\n")
    ran = cli("agents", "list")
    assert ran.code == 0
    assert "shop" in ran.out
    assert "agent.py, line 1" in ran.err


def test_nothing_to_list(project: Path, cli: Run) -> None:
    (project / "remanence.toml").write_text("")
    ran = cli("agents", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "remanence init" in ran.err
    ran = cli("agents", "push")
    assert ran.code == 2
    assert "The setting `agents` names none." in ran.err


def change(project: Path) -> None:
    text = (project / "agent.py").read_text()
    (project / "agent.py").write_text(text.replace('"Help."', '"Help them.\\nBriefly."'))


def test_push_versions_diff(project: Path, cli: Run) -> None:
    assert "shop@1 registered" in cli("agents", "push").out
    assert "shop@1 was registered already" in cli("agents", "push").out
    assert cli("agents", "diff", "shop").code == 2
    change(project)
    assert masked(cli("agents", "push", "agent.py", "-o", "json").json) == snapshot(
        [
            {
                "agent": "shop",
                "number": 2,
                "version": "DIGEST",
                "model": "default",
                "at": "AT",
                "created": True,
                "tools": ["refund", "wire", "slow", "ask_human", "sleep_until"],
            }
        ]
    )
    assert [version["number"] for version in cli("agents", "versions", "shop", "-o", "json").json] == [1, 2]
    assert cli("agents", "versions", "shop").out.splitlines()[2].startswith("shop@2")
    lines = cli("agents", "diff", "shop").out.splitlines()
    assert [line for line in lines if not line.startswith("@@")] == snapshot(
        [
            "--- shop@1",
            "+++ shop@2",
            "     }",
            "   ]",
            " }",
            "-instructions: Help.",
            "+instructions: Help them.",
            "+instructions: Briefly.",
        ]
    )
    assert cli("agents", "diff", "shop@1", "agent.py", "-o", "json").json["same"] is False
    assert cli("agents", "diff", "shop@2", "agent.py").out == "shop@2 and agent.py say the same.\n"
    # A number by itself is a version of the agent that was named.
    for second in ("1", "v1", "shop@v1"):
        assert cli("agents", "diff", "shop@2", second, "-o", "json").json["b"] == "shop@1"
    ran = cli("agents", "diff", "shop", "v99")
    assert ran.code == 3
    assert "Agent 'shop' has no version 'v99'; it has shop@1, shop@2." in ran.err


def test_which_version_answers(folder: Path, project: Path, cli: Run) -> None:
    cli("agents", "push")
    for declared in (DECLARED, DECLARED.replace("Be brief.", "Be brief and kind.")):
        (folder / "clerk.toml").write_text(declared)
        cli("agents", "push", "clerk.toml")
    share = {"version": "DIGEST", "percent": 100}
    clerk = {"agent": "clerk", "environment": "default", "declared": "registered", "shares": [{**share, "number": 2}]}
    shop = {"agent": "shop", "environment": "default", "declared": "code", "shares": [{**share, "number": 1}]}
    assert masked(cli("deploy", "list", "-o", "json").json) == [clerk, shop]
    assert cli("deploy", "list", "shop").out.splitlines()[1].split()[:3] == ["shop", "default", "shop@1"]
    newest = cli("agents", "versions", "clerk", "-o", "json").json[-1]["version"]
    assert cli("deploy", "list", "clerk", "-o", "json").json[0]["shares"][0]["version"] == newest
    ran = cli("deploy", "list", "nobody")
    assert (ran.code, ran.out) == (3, "")
    assert "There is no agent called 'nobody'" in ran.err


def test_versions_are_named_by_number_and_by_digest(project: Path, cli: Run) -> None:
    digest = cli("agents", "push", "-o", "json").json[0]["version"]
    change(project)
    cli("agents", "push")
    for name in (f"shop@{digest}", f"shop@{digest[:8]}", digest[:12], "shop@1"):
        assert cli("agents", "diff", name, "shop@1", "-o", "json").json["same"] is True, name
    for name, hint in (("shop@9", "it has shop@1, shop@2"), ("shpo", "Did you mean 'shop'?"), ("zzz", "shop")):
        ran = cli("agents", "diff", name, "shop")
        assert (ran.code, ran.out) == (3, "")
        assert hint in ran.err


def test_a_session_keeps_the_version_it_began_with(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    change(project)
    cli("agents", "push")
    cli("sessions", "send", session, "more", "--wait")
    first, second = [version["version"] for version in cli("agents", "versions", "shop", "-o", "json").json]
    assert cli("sessions", "get", session, "-o", "json").json["version"] == first
    assert cli("run", "shop", "hello", "--json").code == 0
    assert cli("sessions", "get", "last", "-o", "json").json["version"] == second


def test_a_declarative_file(folder: Path, cli: Run) -> None:
    (folder / "clerk.toml").write_text(DECLARED)
    assert masked(cli("agents", "validate", "clerk.toml", "-o", "json").json) == snapshot(
        [{"agent": "clerk", "version": "DIGEST", "model": "scripted", "tools": ["ask_human"]}]
    )
    assert cli("agents", "push", "clerk.toml").code == 0
    assert cli("run", "clerk", "hello").code == 0
    assert cli("run", "clerk.toml", "hello").code == 0
    (folder / "remanence.toml").write_text('agents = ["clerk.toml"]\n')
    assert cli("agents", "validate").out.startswith("clerk@")


def test_validate_gives_the_exact_place(project: Path, cli: Run) -> None:
    assert cli("agents", "validate").code == 0
    wrong = {
        "bad.toml": ('name = "x"\nmodel = "scripted"\n[limits]\nwindow = 3\n', "`limits.window`"),
        "bad.json": ('{"name": "x"', "not JSON"),
        "bad.py": ("from remanence import Agent\nx = Agent('x', model='scripted', tools=[print])\n", "bad.py, line 2"),
        "syntax.py": ("def\n", "SyntaxError"),
        "empty.py": ("", "holds no agent"),
    }
    for name, (text, place) in wrong.items():
        (project / name).write_text(text)
        ran = cli("agents", "validate", name)
        assert (ran.code, ran.out) == (2, ""), name
        assert place in ran.err
        assert cli("agents", "push", name).code == 2
    assert cli("agents", "validate", "missing.toml").code == 3
    assert cli("agents", "validate", "missing_module").code == 3


@pytest.mark.direct  # no server starts with them
def test_two_agents_of_one_name(project: Path, cli: Run) -> None:
    (project / "more.py").write_text((project / "agent.py").read_text())
    (project / "remanence.toml").write_text('agents = ["agent.py", "more.py"]\n')
    ran = cli("run", "shop", "hello")
    assert ran.code == 2
    assert "Two agents of the setting `agents` are called 'shop', in agent.py and in more.py" in ran.err
