"""A stream that meets an error when its head was sent: it is cut, and the log has a line about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from structlog.testing import capture_logs

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.stream import EventStream
from remanence.cli.opening import configure_logs
from remanence.errors import StoreUnavailable

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
    configure_logs("error")
    try:
        raise RuntimeError(f"{len(held)} things are at hand")
    except RuntimeError:
        structlog.get_logger("test").exception("it went wrong")
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert "RuntimeError: 100 things are at hand" in said
    assert len(said.splitlines()) < 12
