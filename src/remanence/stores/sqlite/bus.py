"""Messages among the processes that have one SQLite file open: Unix datagrams, in a folder beside the file.

Each process that listens has a socket there, under a name drawn by chance. Whoever tells everybody writes to every
socket in the folder. A socket whose process was killed refuses that, and is removed. The folder is for one user alone
(0700); it goes when the last process leaves it in order. An address has room for 107 bytes only: beside a file that
lies deeper than that, the folder is one in the system's folder for temporary files, named by a digest of the file's
path.

Nothing depends on it. Where no folder can be made (a file system that is read-only or full, or knows no sockets, a
folder that belongs to somebody else), this process hears nothing, and readers poll the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from remanence.ports import Bus
from remanence.stores.sqlite.connect import Location
from remanence.stores.sqlite.no_bus import NoBus

__all__ = ["SocketBus", "bus_beside"]

log = structlog.get_logger("remanence.sqlite")

ADDRESS_BYTES_MAX = 107
MESSAGE_BYTES_MAX = 32_000
NAME_BYTES = 8
_NAME = re.compile(rf"[0-9a-f]{{{2 * NAME_BYTES}}}")
READ_AT_ONCE = 64
"""How many messages are heard before others in the event loop have their turn."""
_TRIES = 3


def bus_beside(location: Location) -> Bus:
    """The bus of a database file. Nothing is made before somebody listens."""
    if location.ephemeral or location.read_only or not hasattr(socket, "AF_UNIX"):
        return NoBus()
    path = Path(location.path).resolve()
    folder = Path(f"{path}-live")
    if len(os.fsencode(folder)) + 1 + 2 * NAME_BYTES > ADDRESS_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"remanence-{os.getuid()}-{digest}"
    return SocketBus(folder)


class SocketBus:
    """`ports.Bus` in a folder of sockets."""

    bytes_max = MESSAGE_BYTES_MAX

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(NAME_BYTES)
        self._folder = folder
        self._socket: socket.socket | None = None
        self._heard: Callable[[bytes], None] = lambda message: None
        self._refused = False
        self._closed = False

    @property
    def path(self) -> Path:
        """Where the socket of this process is, or would be."""
        return self._folder / self.name

    def listen(self, heard: Callable[[bytes], None], ready: Callable[[], None]) -> None:
        """Make the socket, unless it is there."""
        self._heard = heard
        if self._closed or self._refused or (self._socket is not None and self.path.exists()):
            return
        self._hang_up()
        try:
            self._socket = self._bound()
            asyncio.get_running_loop().add_reader(self._socket, self._read)
        except (OSError, NotImplementedError) as error:
            self._refused = True
            self._hang_up()
            log.info("no live pieces from other processes here: readers poll the journal", why=str(error))
            return
        ready()

    def _bound(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            for _ in range(_TRIES):
                with suppress(FileNotFoundError):  # the last one to leave has removed the folder just now
                    own_folder(self._folder)
                    made.bind(str(self.path))
                    return made
            raise FileNotFoundError(f"{self._folder} goes as fast as it is made")
        except BaseException:
            made.close()
            raise

    def send(self, message: bytes, *, to: str = "") -> None:
        """Write to one socket, or to each; whoever has no room for it does without."""
        if self._socket is None:
            return
        try:
            names = [to] if to else os.listdir(self._folder)
        except OSError:
            return  # somebody removed it: `listen` makes it again
        for name in names:
            if name != self.name and _NAME.fullmatch(name):  # a name may come from a message: it leads nowhere else
                self._tell(name, message)

    def _tell(self, name: str, message: bytes) -> None:
        assert self._socket is not None
        path = self._folder / name
        try:
            self._socket.sendto(message, str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                if path.is_socket():
                    path.unlink()  # its process is dead: a living one has its socket open as long as its name is there
        except OSError:
            return  # its room is full, or it has just left

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            if self._socket is None:
                return
            try:
                message = self._socket.recv(MESSAGE_BYTES_MAX)
            except OSError:
                return  # nothing more for now
            self._heard(message)

    def _hang_up(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            with suppress(OSError):
                self.path.unlink()

    async def close(self) -> None:
        """Leave. May be called twice."""
        self._closed = True
        if self._socket is not None:
            self._hang_up()
            with suppress(OSError):
                self._folder.rmdir()  # only when nobody else is in it


def own_folder(folder: Path) -> None:
    """Make a folder for this user alone, or see that it is one. Raises OSError."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone")
