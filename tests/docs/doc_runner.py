"""Runs the blocks of one page in the folder it is started in: `python doc_runner.py PAGE`.

Python blocks share one namespace and may `await` at the top; shell blocks share one bash, so that `cd`, variables and
processes in the background carry over. What a block prints is kept until the next one, which may say what it had to be.
Exit code 0: everything ran and printed what the page says. A process of its own for each page, because pages start
workers, change folders and set variables.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doc_pages import FREE_PORT, LOCAL_MODELS, RUNS, Block, blocks_of, text_of

MARK = "-- end of block --"


class Wrong(Exception):
    """A block did not do what its page says."""


class Shell:
    """One bash for the page."""

    def __init__(self) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._count = 0
        self._scripts = Path.cwd() / ".blocks"
        self._scripts.mkdir()

    def run(self, code: str, *, exits: int = 0) -> str:
        """Run a block; what it printed. Raises `Wrong` when a command fails, or ends otherwise than with `exits`."""
        self._count += 1
        script = self._scripts / f"{self._count}.sh"
        script.write_text(code)
        strict = "+e" if exits else "-e"
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"set {strict}; . {script} </dev/null; printf '\\n{MARK} %s %s\\n' $? \"$PWD\"\n")
        self._bash.stdin.flush()
        printed, status = self._until_mark()
        if status != exits:
            raise Wrong(f"ended with {'an error' if status is None else status}, not {exits}; it printed:\n{printed}")
        return printed

    def _until_mark(self) -> tuple[str, int | None]:
        assert self._bash.stdout is not None
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(MARK):
                status, folder = line.removeprefix(MARK).strip().split(" ", 1)
                os.chdir(folder)
                return "".join(lines).removesuffix("\n"), int(status)
            lines.append(line)
        return "".join(lines), None

    def close(self) -> None:
        """End the shell and what the page left running in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


class Page:
    """The blocks of one page, run one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = _on_a_free_port(text_of(path))
        self.printed = ""
        self._namespace: dict[str, Any] = {"__name__": "__main__"}

    def run(self) -> None:
        shell = Shell()
        try:
            for block in blocks_of(self.text):
                try:
                    self._run(block, shell)
                except Wrong as wrong:
                    raise SystemExit(f"{self.path}:{block.line}: {wrong}") from None
        finally:
            shell.close()

    def _run(self, block: Block, shell: Shell) -> None:
        if block.reason:
            return
        if block.file:
            Path(block.file).write_text(block.code)
        elif block.prints:
            compare(block.code, self.printed)
        elif block.kind == "python":
            self.printed = self._python(block)
        elif block.kind == "console":
            for command, expected in console(block.code):
                self.printed = shell.run(command)
                compare(expected, self.printed)
        elif block.kind in RUNS:
            self.printed = shell.run(block.code, exits=block.exits)

    def _python(self, block: Block) -> str:
        # Moved down to where it stands on the page, so that a traceback names the page's own line.
        code = compile("\n" * (block.line - 1) + block.code, self.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            result: Any = eval(code, self._namespace)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        return printed.getvalue()


def _on_a_free_port(text: str) -> str:
    """The page with the server's usual port replaced, where it asks for that: somebody may be using it."""
    if FREE_PORT not in text:
        return text
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ["REMANENCE_PORT"] = port
    return text.replace(":7410", f":{port}")


def console(code: str) -> Iterator[tuple[str, str]]:
    """Each command of a `console` block, with what it prints."""
    for entry in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        lines = entry.splitlines(keepends=True)
        count = 1
        while lines[count - 1].endswith("\\\n"):
            count += 1
        yield "".join(lines[:count]), "".join(lines[count:])


def compare(expected: str, printed: str) -> None:
    """Raises `Wrong` unless `printed` is what was expected. `...` stands for anything; runs of blanks are one blank."""
    pattern = re.escape(_squeezed(expected)).replace(re.escape("..."), ".*")
    if not re.fullmatch(pattern, _squeezed(printed), re.DOTALL):
        raise Wrong(f"should have printed\n{expected}\nbut printed\n{printed}")


def _squeezed(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


# --- models on this machine -------------------------------------------------------------------------------------------


def serve_models() -> None:
    """Serve every model name in the background: it refunds order 42 when it can, and then says so."""
    from remanence.testing.wire import Answer, WireCall, WireRequest, WireServer

    def answer(request: WireRequest) -> Answer:
        messages = request.body.get("messages", [])
        if request.body.get("tools") and not any(message["role"] == "tool" for message in messages):
            return Answer(calls=(WireCall("x", "refund", '{"order": "42", "cents": 4200}'),))
        return Answer(text="I have refunded order 42.")

    ready = threading.Event()

    async def serve() -> None:
        async with WireServer(answer) as server:
            os.environ["REMANENCE_UPSTREAM_URL"] = f"{server.url}/v1"
            ready.set()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()


if __name__ == "__main__":
    # Told to end, it still ends what its page has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    page = Page(Path(sys.argv[1]))
    if LOCAL_MODELS in page.text:
        serve_models()
    page.run()
