"""A process that is told to end ends, whatever its tools do: it names them, and what becomes of their calls."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_project import Run, command_line
from serving_process import Running, until

AGENT = '''
import asyncio
import time
from pathlib import Path

from remanence import Agent, tool

TRIES = Path(__file__).with_name("tries")


def began() -> bool:
    """Whether it is the first time."""
    first = not TRIES.exists()
    TRIES.touch()
    return first


@tool(replay="never")
def sleeps() -> str:
    """Sleep in a thread, for ever."""
    while began() or True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


@tool(replay="safe")
async def swallows() -> str:
    """Swallow what would cancel it."""
    again = not began()
    while not again:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass
    return "the second time"


@tool(replay="safe")
async def blocks() -> str:
    """Block the event loop."""
    again = not began()
    while not again:
        try:
            while True:
                pass
        except BaseException:
            pass
    return "the second time"


def for_ever() -> None:
    while True:
        time.sleep(3600)


@tool(replay="never")
async def delegates() -> str:
    """Leave it to a thread that never ends."""
    began()
    await asyncio.to_thread(for_ever)
    return "never"


shop = Agent("shop", model="default", tools=[sleeps, swallows, blocks, delegates])
'''
SETTINGS = 'agents = ["agent.py"]\nport = 0\n\n[worker]\nlease_s = 1\ndrain_s = {drain_s}\n'
LEAVING = """
import asyncio, signal, sys, threading, time
from remanence.cli.watchdog import Watchdog
from remanence.runtime.running import Running

def forever():
    while True:
        time.sleep(3600)

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    watchdog = Watchdog(1.0, lambda: [Running("s", "leaves_a_thread", "s:1:c", "keyed")], leave_s=0.3)
    if sys.argv[1] == "hangs":
        threading.Thread(target=forever).start()
    with watchdog.watching():
        watchdog.leaving(1)

asyncio.run(main())
"""

TWICE = """
import asyncio, os, signal, sys, time
from remanence.cli.watchdog import Watchdog

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    with Watchdog(3600.0, list).watching():
        sys.setswitchinterval(3600.0)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        sys.setswitchinterval(0.005)
        time.sleep(0.1)  # whoever came to wait for the interpreter before waits for as long as it was told then
        while True:
            pass

asyncio.run(main())
"""

CLOSING = """
import asyncio, os, signal, sys, time
from contextlib import asynccontextmanager
from remanence.cli.leaving import go, run

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

@asynccontextmanager
async def closed_in_order():
    try:
        yield
    finally:
        if sys.argv[1] == "in a call that blocks":
            interrupt()
            time.sleep(3600)
        await asyncio.sleep(3600)

async def main():
    async with closed_in_order():
        interrupt()
        try:
            await asyncio.sleep(3600)
        finally:
            if sys.argv[1] == "between two steps":
                interrupt()

try:
    run(main())
except KeyboardInterrupt:
    go(130)
"""


def begun(project: Path, *words: str) -> subprocess.Popen[str]:
    """A process in which the tool runs."""
    process = subprocess.Popen(command_line(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pause = threading.Event()
    while not (project / "tries").exists():
        assert process.poll() is None
        pause.wait(0.02)
    return process


def told(process: subprocess.Popen[str], number: signal.Signals, times: int) -> tuple[int, str]:
    """How it ends after so many signals."""
    for _ in range(times):
        threading.Event().wait(0.3)
        process.send_signal(number)
        until(lambda: not is_pending(process.pid, number))  # the kernel makes one of two that are still to be heard
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a process still has to hear of a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return any(
        int(line.split()[1], 16) >> (number - 1) & 1
        for line in status.splitlines()
        if line.startswith(("SigPnd:", "ShdPnd:"))
    )


def stopped(
    project: Path, cli: Run, tool: str, drain_s: float, *, verb: str = "worker", signals: int = 1
) -> tuple[str, int, str]:
    (project / "agent.py").write_text(AGENT)
    (project / "remanence.toml").write_text(SETTINGS.format(drain_s=drain_s))
    session = cli("run", "shop", f"/tool {tool} {{}}", "--no-wait").out.strip()
    return session, *told(begun(project, verb), signal.SIGTERM, signals)


@pytest.mark.parametrize(("verb", "tool"), [("worker", "sleeps"), ("serve", "sleeps"), ("worker", "delegates")])
def test_a_thread_that_never_ends(verb: str, tool: str, project: Path, cli: Run) -> None:
    session, code, said = stopped(project, cli, tool, 0.3, verb=verb)
    assert code == 1
    assert f"The call {tool} of session {session} ({session}:1:call_1_1_1) is in doubt" in said
    # Whoever has the session next puts it to a person, and starts nothing a second time.
    assert cli("attach", session).code == 5
    assert [doubt["tool"] for doubt in cli("doubts", "list", "-o", "json").json] == [tool]


def test_a_signal_to_a_process_and_to_its_group_is_one(project: Path, cli: Run) -> None:
    (project / "agent.py").write_text(AGENT)
    (project / "remanence.toml").write_text(SETTINGS.format(drain_s=0.3))
    assert cli("run", "shop", "/tool sleeps {}", "--no-wait").code == 0
    worker = begun(project, "worker")
    for _ in range(2):
        worker.send_signal(signal.SIGTERM)
        until(lambda: not is_pending(worker.pid, signal.SIGTERM))
    said, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert ("Finishing what runs in 1 session" in said, "Stopped at once" in said) == (True, False)


@pytest.mark.parametrize("tool", ["swallows", "delegates"])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_whatever_runs(times: int, tool: str, project: Path) -> None:
    (project / "agent.py").write_text(AGENT)
    (project / "remanence.toml").write_text(SETTINGS.format(drain_s=0.3 if times == 1 else 60.0))
    with Running("run", "shop", f"/tool {tool} {{}}") as run:
        until(lambda: (project / "tries").exists())
        run.signal(signal.SIGINT)
        run.line("Detached; session")
        if times == 2:
            run.signal(signal.SIGINT)
        assert run.end() == 130
    assert ("did not finish in time" in "\n".join(run.printed)) == (times == 1)


def test_a_coroutine_that_swallows_its_cancellation(project: Path, cli: Run) -> None:
    session, code, said = stopped(project, cli, "swallows", 0.3)
    assert code == 1
    assert f"The call swallows of session {session} ({session}:1:call_1_1_1) runs again" in said
    assert "the second time" in cli("attach", session).out


@pytest.mark.parametrize(("drain_s", "signals"), [(0.3, 1), (60.0, 2)], ids=["when it is time", "the second signal"])
def test_a_loop_that_is_blocked(drain_s: float, signals: int, project: Path, cli: Run) -> None:
    session, code, said = stopped(project, cli, "blocks", drain_s, signals=signals)
    assert code == 128 + signal.SIGTERM
    assert "The event loop does not answer" in said
    assert f"The call blocks of session {session} ({session}:1:call_1_1_1) runs again." in said
    assert "the second time" in cli("attach", session).out


def test_two_signals_that_are_heard_together_are_two() -> None:
    """On a busy machine whoever hears of them comes late."""
    ran = subprocess.run([sys.executable, "-c", TWICE], check=False, timeout=60, capture_output=True, text=True)
    assert ran.returncode == 128 + signal.SIGTERM
    assert "The event loop does not answer" in ran.stderr


@pytest.mark.parametrize("where", ["between two steps", "in a call that blocks"])
def test_a_second_ctrl_c_leaves_wherever_it_is_heard(where: str) -> None:
    """Also in the middle of an end in order, which would take it for one more reason to end in order."""
    ran = subprocess.run([sys.executable, "-c", CLOSING, where], check=False, timeout=60, capture_output=True)
    assert (ran.returncode, ran.stderr) == (130, b"")


@pytest.mark.parametrize(("way", "code"), [("hangs", 1), ("goes", 0)])
def test_a_thread_that_outlives_everything(way: str, code: int) -> None:
    ran = subprocess.run([sys.executable, "-c", LEAVING, way], check=False, timeout=60, capture_output=True, text=True)
    assert ran.returncode == code
    assert ("leaves_a_thread of session s" in ran.stderr) == (way == "hangs")


LOGGING = '''
import structlog

from remanence import Agent, tool


@tool(replay="never")
async def look() -> str:
    """Look, and say so in the log."""
    structlog.get_logger("shop").error("looked")
    return "looked"


shop = Agent("shop", model="default", tools=[look])
'''


@pytest.mark.parametrize("verb", [("worker",), ("serve", "--port", "0")])
def test_a_log_that_cannot_be_written_holds_nobody_up(verb: tuple[str, ...], project: Path, cli: Run) -> None:
    """As on a full disk, or after its terminal was closed."""
    (project / "agent.py").write_text(LOGGING)
    (project / "remanence.toml").write_text('agents = ["agent.py"]\nlog_level = "debug"\n')
    session = cli("run", "shop", "/tool look {}", "--no-wait").out.strip()
    with Path("/dev/full").open("w") as full:
        server = subprocess.Popen(command_line(*verb), stdout=subprocess.PIPE, stderr=full)
    try:
        for _ in range(600):
            if cli("sessions", "get", session, "-o", "json", "--direct").json["status"] == "idle":
                break
            threading.Event().wait(0.1)
        assert cli("sessions", "get", session, "-o", "json", "--direct").json["status"] == "idle"
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()
    assert cli("doubts", "list", "-o", "json").json == []


def test_a_command_whose_notes_nobody_can_read_does_its_work(project: Path, cli: Run) -> None:
    with Path("/dev/full").open("w") as full:
        command = command_line("run", "shop", '/tool refund {"order": "42", "cents": 900}')
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, b"refund returned: refunded 900\n")
        missing = subprocess.run(command_line("sessions", "get", "nobody"), stderr=full, timeout=60, check=False)
        assert missing.returncode == 3
        wrong = subprocess.run(command_line("sessions", "what"), stderr=full, timeout=60, check=False)
        assert wrong.returncode == 2
