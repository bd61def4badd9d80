"""`memory`: what agents remember is searched, read, edited and withdrawn, and granted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cli_project import Run

AGENT = """
from remanence import Agent

shop = Agent("shop", model="default", instructions="Help.", memory=True)
"""


@pytest.fixture
def remembering(project: Path) -> Path:
    """A project whose agent has a memory."""
    (project / "agent.py").write_text(AGENT)
    return project


def said(cli: Run, text: str, *, user: str = "ada") -> str:
    ran = cli("run", "shop", text, "--user", user, "--json")
    assert ran.code == 0, ran.err
    return ran.json["session"]


def test_nothing_is_remembered(remembering: Path, cli: Run) -> None:
    cli("agents", "push", "agent.py")
    ran = cli("memory", "search", "parcels")
    assert (ran.code, ran.out, ran.err) == (0, "", "Nothing is remembered that fits.\n")
    assert cli("memory", "grants").err.startswith("Nothing was granted")
    assert cli("memory", "show", "mem_1").code == 3


def test_what_was_said_is_found_with_its_reason_and_its_source(remembering: Path, cli: Run) -> None:
    session = said(cli, "My parcels go to the neighbour at number 12.")
    (hit, *_) = cli("memory", "search", "parcels neighbour", "--kind", "episode", "-o", "json").json
    assert (hit["memory"]["memory"], hit["memory"]["scope"]) == (f"{session}#2", "user:ada")
    assert "because of the words" in cli("memory", "search", "parcels neighbour").out
    assert f"learned from  record 2 of session {session}" in cli("memory", "show", f"{session}#2").out
    said(cli, "Where do my parcels go?")
    assert "recalled: " in cli("sessions", "tail", "last").out
    assert cli("memory", "search", "parcels", "--scope", "user:ben").out == ""


def test_a_note_is_kept_edited_and_forgotten(remembering: Path, cli: Run) -> None:
    kept = cli("memory", "keep", "Ada drinks green tea.", "--scope", "user:ada", "--about", "Ada", "-o", "json")
    name = kept.json["memory"]
    assert (kept.json["author"], kept.json["subjects"], kept.json["label"]) == ("ada", ["Ada"], "trusted")
    assert cli("memory", "edit", name, "Ada drinks black tea.", "--seen", "1").code == 0
    refused = cli("memory", "edit", name, "no", "--seen", "1")
    assert (refused.code, "has version 2 by now" in refused.err) == (4, True)
    history = cli("memory", "history", name, "-o", "json").json
    assert [one["text"] for one in history] == ["Ada drinks green tea.", "Ada drinks black tea."]
    assert "black tea" in cli("memory", "history", name).out
    assert cli("memory", "forget", name, "--reason", "she asked").out == f"{name} is recalled no more.\n"
    assert cli("memory", "forget", name).code == 4
    assert cli("memory", "search", "tea").out == ""
    assert cli("memory", "search", "tea", "--believed", "2000-01-01").out == ""
    lines = cli("memory", "export", "-o", "jsonl").out.splitlines()
    assert [msgspec.json.decode(line)["version"] for line in lines] == [1, 2]
    assert cli("sessions", "list").out == "", "what people keep stands among no sessions"


def test_the_index_is_made_again(remembering: Path, cli: Run) -> None:
    said(cli, "My parcels go to the neighbour at number 12.")
    cli("memory", "keep", "Ada drinks green tea.", "--scope", "user:ada")
    before = cli("memory", "export", "-o", "jsonl").out
    assert cli("memory", "rebuild").out == "Made again from 2 sessions.\n"
    assert cli("memory", "export", "-o", "jsonl").out == before


def test_stores_and_grants(remembering: Path, cli: Run) -> None:
    assert cli("memory", "stores", "create", "team", "--description", "What the team knows").code == 0
    assert cli("memory", "stores", "create", "team").code == 4
    assert "What the team knows" in cli("memory", "stores", "list").out
    assert cli("memory", "grant", "team", "agent:shop").code == 2
    assert cli("memory", "grant", "none", "agent:shop", "--read", "project").code == 3
    granted = cli("memory", "grant", "team", "agent:shop", "--read", "project", "--read", "user")
    assert granted.out == "agent:shop reads project, user and writes nothing of store team, from its next call on.\n"
    cli("memory", "keep", "Lunch is at noon.", "--scope", "project", "--store", "team")
    said(cli, "When is lunch?")
    assert "recalled: mem_" in cli("sessions", "tail", "last").out
    assert cli("memory", "revoke", "team", "agent:shop").code == 0
    said(cli, "When is lunch?", user="ben")
    assert "recalled: mem_" not in cli("sessions", "tail", "last").out
    (one,) = cli("memory", "grants", "-o", "json").json
    assert (one["reads"], one["by"], one["changes"]) == ([], "ada", 2)


def test_a_store_is_attached_listed_and_detached(remembering: Path, cli: Run) -> None:
    session = said(cli, "Hello")
    assert cli("memory", "stores", "create", "team").code == 0
    cli("memory", "keep", "Lunch is at noon.", "--scope", "project", "--store", "team")
    assert cli("memory", "attach", "tame", "agent:shop").code == 3
    assert cli("memory", "attach", "team", "agent:nobody").code == 3
    assert cli("memory", "attach", "team", "session:nothing").code == 3
    assert cli("memory", "attach", "team", "ada").code == 2
    attached = cli("memory", "attach", "team", "agent:shop", "--access", "read")
    assert attached.out.startswith("agent:shop reads store team, from its next call on")
    said(cli, "When is lunch?")
    assert "recalled: mem_" in cli("sessions", "tail", "last").out
    own, granted = cli("memory", "attachments", "-o", "json").json
    assert (own["store"], own["by"], own["writes"]) == ("default", "version", ["session", "user"])
    assert (granted["store"], granted["by"], granted["writes"]) == ("team", "ada", [])
    assert "team" in cli("memory", "attachments", "--to", "agent:shop").out
    assert cli("memory", "detach", "team", "agent:shop").code == 0
    said(cli, "When is lunch?", user="ben")
    assert "recalled: mem_" not in cli("sessions", "tail", "last").out
    assert cli("memory", "detach", "default", f"session:{session}").code == 0
    (gone,) = cli("memory", "attachments", "--to", f"session:{session}", "-o", "json").json
    assert (gone["store"], gone["reads"], gone["writes"]) == ("default", [], [])


def test_who_has_no_memory_is_told_how_to_get_one(project: Path, cli: Run) -> None:
    (project / "agent.py").write_text(AGENT.replace(", memory=True", ""))
    session = said(cli, "Hello")
    for who, what in (("agent:shop", "memory=True"), (f"session:{session}", "open another session")):
        refused = cli("memory", "attach", "default", who)
        assert (refused.code, what in refused.err) == (2, True), refused
    assert "No agent has a memory yet" in cli("memory", "attachments").err


def test_a_block_is_set_and_shown(remembering: Path, cli: Run) -> None:
    ran = cli("memory", "keep", "Answer in French.", "--scope", "user:ada", "--block", "style", "-o", "json")
    assert (ran.json["memory"], ran.json["kind"]) == ("block/default/user:ada/style", "block")
    said(cli, "Hello")
    assert "blocks: block/default/user:ada/style" in cli("sessions", "tail", "last").out
    bad = cli("memory", "keep", "x", "--scope", "user:ada", "--since", "soon")
    assert (bad.code, "is no date" in bad.err) == (2, True)
