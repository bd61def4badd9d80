"""A server of ours as a real process: what it prints, what it answers, how it ends."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Self

import msgspec
from cli_project import command_line

WAIT_S = 60


class Running:
    """One process. Use it as a context manager: what still runs at the end is killed."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            command_line(*args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        self.printed: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches; fails with all that was printed when the process ends or is silent."""
        while True:
            line = self._lines.get(timeout=WAIT_S)
            assert line is not None, f"it ended without {pattern!r}:\n" + "\n".join(self.printed)
            self.printed.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def url(self) -> str:
        """Where it listens, as it says when it is ready."""
        return self.line(r"API\s+(http://[^/\s]+)")[1]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; the exit code. What was printed until then is in `printed`."""
        code = self.process.wait(WAIT_S)
        while (line := self._lines.get(timeout=WAIT_S)) is not None:
            self.printed.append(line)
        return code


def get(url: str, *, key: str = "") -> tuple[int, Any]:
    """The status and the decoded JSON of an answer."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, msgspec.json.decode(error.read())


def until(true: Callable[[], object]) -> None:
    """Look again and again until it is so."""
    pause = threading.Event()
    for _ in range(WAIT_S * 50):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen in time")
