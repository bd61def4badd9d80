"""A stream that meets an error when its head was sent: it is cut, and the log has a line about it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from structlog.testing import capture_logs
from wire_server import serve

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.stream import EventStream
from remanence.errors import StoreUnavailable
from remanence.logs import configure_for_people
from remanence.models.scripted import Step

router = APIRouter()


@router.get("/stream")
async def stream() -> EventStream:
    async def frames() -> AsyncGenerator[bytes]:
        yield b"event: one\n\n"
        raise StoreUnavailable("PostgreSQL did not answer.")

    return EventStream(frames(), on_end=lambda: None)


async def test_a_stream_that_the_store_fails_is_cut_and_told_in_a_line(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/one.db", worker=False) as rt:
        app = build_app(rt, faces=[router])
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stream",
            "headers": [(b"host", b"127.0.0.1")],
            "query_string": b"",
        }

        async def receive() -> Any:
            await asyncio.Event().wait()  # the reader stays

        async def send(message: Any) -> None:
            sent.append(message)

        with capture_logs() as logs:
            await app(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, b"event: one\n\n"]
    assert sent[-1]["more_body"]
    assert [(entry["log_level"], entry["why"]) for entry in logs] == [("warning", "PostgreSQL did not answer.")]


def test_a_traceback_in_the_log_is_a_plain_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn with every local in it, one took a busy server minutes."""
    held = [{"a": list(range(1_000))} for _ in range(100)]
    configure_for_people("error")
    try:
        raise RuntimeError(f"{len(held)} things are at hand")
    except RuntimeError:
        structlog.get_logger("test").exception("it went wrong")
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert "RuntimeError: 100 things are at hand" in said
    assert len(said.splitlines()) < 12


@pytest.mark.parametrize("face", ["responses", "chat"])
def test_whoever_leaves_what_is_not_stored_leaves_no_task_behind(face: str, tmp_path: Path) -> None:
    """A model call that nobody waits for any more is cut off, with everything that waited for it."""
    complaints: list[str] = []

    async def listen(rt: Remanence) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))

    async def requests(rt: Remanence) -> int:
        """How many requests are answered."""
        gc.collect()
        return sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())

    with serve(tmp_path / "a.db", [Step(text="One two three.", piece_s=60.0)]) as server, server.client() as client:
        server.do(listen)
        for _ in range(3):
            if face == "responses":
                stream = client.responses.create(model="scripted", input="hello", store=False, stream=True)
                while next(stream).type != "response.output_text.delta":
                    pass
            else:
                said = [{"role": "user", "content": "hello"}]
                stream = client.chat.completions.create(model="scripted", messages=said, stream=True)
                next(stream)
            stream.close()
        for _ in range(5_000):
            if not server.do(requests):
                break
        assert not server.do(requests), "it is still answered"
    assert not complaints
