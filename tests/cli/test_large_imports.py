"""A session far over the limit of a request is imported through a running server, as it is read."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Run
from serving_process import Running

from remanence import Agent, Remanence
from remanence.api.guard import BODY_BYTES_MAX
from remanence.commands import sessions
from remanence.commands.transfer import export_session

MB = 1 << 20
INPUTS, INPUT_BYTES = 8, 2 * MB


@pytest.fixture
def server(project: Path) -> Iterator[Running]:
    with Running("serve", "--port", "0") as running:
        running.line("Worker +up to")
        yield running


async def write_bundle(file: Path, other: Path) -> str:
    """A frozen session whose inputs no compression makes small."""
    dice = random.Random(7)
    agent = Agent("shop", model="default")
    async with Remanence(f"sqlite:///{other}", agents=[agent], worker=False) as rt:
        session = await sessions.open_session(rt.caller, agent.spec)
        await sessions.freeze(rt.caller, session, reason="it moves")
        for _ in range(INPUTS):
            words = base64.b85encode(dice.randbytes(INPUT_BYTES)).decode()
            await sessions.send(rt.caller, session, words, if_busy="queue")
        await export_session(rt.caller, session, file)
    return session


async def test_twice_the_limit(project: Path, process: Run, server: Running, tmp_path: Path) -> None:
    file = tmp_path / "large.remanence"
    session = await write_bundle(file, tmp_path / "elsewhere.db")
    assert file.stat().st_size > 2 * BODY_BYTES_MAX
    laid = process("sessions", "import", str(file), "-o", "json")
    assert (laid.code, laid.json["session"], laid.json["records"]) == (0, session, INPUTS + 2), laid.err
    assert process("sessions", "verify", session).code == 0
    again = process("sessions", "import", str(file))
    assert again.code == 4, again.err
    for database in (project / ".remanence").glob("remanence.db*"):
        database.rename(database.with_name(f"hidden-{database.name}"))
    assert process("sessions", "get", session).code == 0, "the server has it"
