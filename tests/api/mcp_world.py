"""A shop behind the Model Context Protocol: a real process, over HTTP or over its pipes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Shop", "command", "shop_over_http"]

PROGRAM = Path(__file__).parent / "mcp_shop.py"


@dataclass
class Shop:
    """Where it listens, and what it wrote down."""

    url: str
    ledger: Path
    process: subprocess.Popen[bytes]

    @property
    def ran(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


def command(ledger: Path) -> list[str]:
    """What starts a shop that speaks over its pipes."""
    return [sys.executable, str(PROGRAM), str(ledger)]


@contextmanager
def shop_over_http(ledger: Path, port: int = 0) -> Iterator[Shop]:
    """A shop that listens on this port, or on a free one."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command(ledger), str(port)], stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the shop did not open"
                assert process.poll() is None, "the shop died"
        yield Shop(f"http://127.0.0.1:{port}/mcp", ledger, process)
    finally:
        process.kill()
        process.wait(60)
