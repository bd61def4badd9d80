"""A disk that has room to open a session and none for what is said in it: the refusal names the session left behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import openai
import pytest
from chat_server import serving

from remanence import Remanence
from remanence.api.faces import faces
from remanence.app import Options
from remanence.models.scripted import Scripted
from remanence.stores.sqlite.database import open_sqlite

ROOM_BYTES = 300_000
LARGE = "x" * 600_000


SAID: Any = [{"role": "user", "content": LARGE}]
NEW: Any = {"environment": {"type": "none"}, "agent": {"model": "scripted"}, "input": LARGE}
ASK: dict[str, Any] = {
    "responses": lambda client: client.responses.create(model="scripted", input=LARGE),
    "chat": lambda client: client.chat.completions.create(
        model="scripted", messages=SAID, extra_headers={"x-session-id": "new"}
    ),
    "agents": lambda client: client.beta.agents.sessions.create(**NEW),
}


@pytest.mark.parametrize("face", ASK)
async def test_the_session_that_is_left_behind_is_named(tmp_path: Path, face: str) -> None:
    path = tmp_path / "full.db"
    await (await open_sqlite(str(path))).close()
    database = await open_sqlite(str(path), bytes_max=path.stat().st_size + ROOM_BYTES)
    options = Options(database=database, model=Scripted())
    async with Remanence(options=options) as rt, serving(rt, [("", face) for face in faces()]) as server:
        client: Any = server.client(max_retries=0)
        with pytest.raises(openai.InternalServerError) as caught:
            await ASK[face](client)
        assert (caught.value.status_code, caught.value.code) == (507, "store_full")
        found = re.search(r"Session (\S+) was opened for it and is empty", caught.value.message)
        assert found is not None, caught.value.message
        assert [record.position for record in await database.store.read(found[1])] == [1]
    await database.close()
