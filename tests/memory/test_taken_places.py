"""What a project keeps is written into journals of its own, also when another one has sessions in their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence import Remanence
from remanence.app import Options
from remanence.commands.sessions import Opening, open_session
from remanence.core.memory.journal import journal_of
from remanence.errors import Conflict
from remanence.recollections import Place
from remanence.spec import AgentSpec

ADAS = Place("default", "user:ada")


async def test_a_note_is_not_written_into_a_strangers_session(tmp_path: Path) -> None:
    url, taken = f"sqlite:///{tmp_path}/r.db", journal_of("default", ADAS.store)
    options = Options(project="other")
    async with Remanence(url, worker=False, options=options) as theirs, Remanence(url, worker=False) as rt:
        await open_session(theirs.caller, AgentSpec("spy", "scripted"), Opening(session=taken))
        with pytest.raises(Conflict, match="Nothing was written"):
            await rt.memory.keep("Ada is left-handed", ADAS)
        assert len(await theirs.database.store.read(taken)) == 1
        await theirs.memory.keep("Ben is tall", ADAS)  # whose own journal is another
