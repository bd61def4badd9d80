"""A command of ours in a pseudo-terminal: what is typed, what is shown, how it ends."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
import threading
from collections.abc import Callable

from cli_project import command_line


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *args: str) -> None:
        command = command_line(*args)
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.environ |= {"TERM": "dumb"}
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have turned it off
            os.execv(command[0], command)
        self.shown = self._rest = ""
        self._settings = termios.tcgetattr(self._fd)

    def until(self, words: str) -> str:
        """Read until the words are shown; what was shown since the last time, up to them."""
        while words not in self._rest:
            ready, _, _ = select.select([self._fd], [], [], 60)
            assert ready, f"{words!r} was not shown after {self._rest!r}"
            self._rest += os.read(self._fd, 65536).decode(errors="replace")
        before, found, self._rest = self._rest.partition(words)
        self.shown += before + found
        return before

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.type("\x03")

    def interrupt_until(self, words: str) -> None:
        """Ctrl-C, and again after a while as a person would, until the words are shown: what comes in the instant in
        which a prompt is being drawn is heard at the next key."""
        self.interrupt()
        while words not in self._rest:
            if select.select([self._fd], [], [], 10)[0]:
                self._rest += os.read(self._fd, 65536).decode(errors="replace")
            else:
                self.interrupt()
        self.until(words)

    def hang_up(self, afterwards: Callable[[], object]) -> int:
        """Close the terminal as its window is closed; the exit code. A while `afterwards` something else happens."""
        os.close(self._fd)
        threading.Event().wait(1.5)  # until it has heard of it: nobody is there any more to whom it could be shown
        afterwards()
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> int:
        """Read to the end; the exit code."""
        while True:
            try:
                piece = os.read(self._fd, 65536)
            except OSError:
                break
            if not piece:
                break
            self._rest += piece.decode(errors="replace")
        # What a line editor changes while it reads, and a program should leave as it was.
        assert termios.tcgetattr(self._fd)[:4] == self._settings[:4]
        os.close(self._fd)
        self.shown += self._rest
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
