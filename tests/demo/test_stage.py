"""What the tour prints: claims as they are, in any terminal."""

from __future__ import annotations

from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console

from remanence.content import Text, ToolCall
from remanence.demo.claims import Claim
from remanence.demo.stage import Stage
from remanence.events import InputReceived, ModelReplied, Recorded, SessionOpened


def stage_in(encoding: str) -> tuple[Stage, BytesIO]:
    raw = BytesIO()
    console = Console(file=TextIOWrapper(raw, encoding=encoding, write_through=True), width=80)
    return Stage(console, fast=True), raw


async def test_a_claim_that_does_not_hold_is_said_so_and_kept() -> None:
    stage, raw = stage_in("utf-8")
    await stage.scene(2, "A worker dies")
    await stage.claim(Claim("One refund.", True), Claim("One mail left.", False, "two left"))
    printed = raw.getvalue().decode()
    assert "2  A worker dies" in printed
    assert "✓ One refund." in printed
    assert "✗ One mail left." in printed
    assert "found: two left" in printed
    assert [(scene, claim.text) for scene, claim in stage.failed] == [(2, "One mail left.")]


async def test_a_terminal_without_unicode_marks_is_served_too() -> None:
    stage, raw = stage_in("ascii")
    await stage.claim(Claim("One refund.", True), Claim("One mail left.", False))
    assert b"ok One refund." in raw.getvalue()
    assert b"NO One mail left." in raw.getvalue()


async def test_journal_lines_stay_on_one_line_and_leave_out_the_bookkeeping() -> None:
    stage, raw = stage_in("utf-8")
    long = ModelReplied("model_1_1", (ToolCall("c", "refund", '{"order":"O-1001"}'), Text("word " * 200)))
    facts = [SessionOpened("support", "v", "p"), InputReceived("in_1", (Text("[bold]a\n b[/bold]"),)), long]
    await stage.show(Recorded("s", n, 0, 0, "w", event) for n, event in enumerate(facts, start=1))
    lines = raw.getvalue().decode().splitlines()
    assert [line.split()[:2] for line in lines] == [["#2", "InputReceived"], ["#3", "ModelReplied"]]
    assert '"[bold]a b[/bold]"' in lines[0]
    assert 'refund {"order":"O-1001"}' in lines[1]


async def test_a_command_is_spelled_as_this_reader_can_type_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `make demo` nothing is on the path: the command is where it was called."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [".venv/bin/remanence", "demo"])
    stage, raw = stage_in("utf-8")
    await stage.command("KEY=... remanence demo --keep tour && remanence --config tour/remanence.toml sessions list")
    spelled = ".venv/bin/remanence"
    expected = f"     KEY=... {spelled} demo --keep tour && {spelled} --config tour/remanence.toml sessions list\n"
    assert raw.getvalue().decode() == expected
    monkeypatch.setattr("sys.argv", ["pytest"])
    await stage.command("remanence demo")
    assert raw.getvalue().decode() == f"{expected}     remanence demo\n"
