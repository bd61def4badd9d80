"""A server process for `test_idle_streams.py`: prints where it listens, and lives until its input ends."""

from __future__ import annotations

import resource
import sys

from wire_server import WireServer

from remanence.testing.scripted import Scripted

if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = WireServer(sys.argv[1], {"scripted": Scripted(None)})
    print(server.url, flush=True)  # noqa: T201 - that is how it is told
    sys.stdin.read()
    server.stop()
