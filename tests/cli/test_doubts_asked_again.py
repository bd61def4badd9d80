"""`doubts list` says what came of asking the tool, and when it is asked again."""

from __future__ import annotations

from pathlib import Path

from cli_project import Run, begun

AGENT = '''
from remanence import Agent, tool
from remanence.errors import EffectInDoubt


def desk(effect_key):
    raise ConnectionError("the desk is closed")


@tool(replay="never", reconcile=desk)
def wire(cents: int) -> str:
    """Send money over a line that breaks."""
    raise EffectInDoubt("the line broke")


shop = Agent("shop", model="default", tools=[wire])
'''


def test_a_reconcile_that_failed_shows(project: Path, cli: Run) -> None:
    (project / "agent.py").write_text(AGENT)
    session = begun(cli, '/tool wire {"cents": 5}', 5)
    (doubt,) = cli("doubts", "list", "-o", "json").json
    assert (doubt["session"], doubt["reason"], doubt["asked"]) == (session, "the line broke", 1)
    assert doubt["failure"] == "reconcile failed (ConnectionError: the desk is closed)"
    assert 3_000_000 < doubt["retry_at"] - doubt["at"] < 60_000_000
    table = " ".join(cli("doubts", "list").out.split())
    assert "the line broke; reconcile failed (ConnectionError: the desk is closed), 1 failure: asked again at" in table
    assert "STILL IN DOUBT" in cli("sessions", "tail", session).out
    assert cli("sessions", "list", "-o", "json").json[0]["status"] == "waiting"
    assert cli("doubts", "resolve", session, "--happened", "I called them").code == 0
    assert cli("doubts", "list", "-o", "json").json == []
