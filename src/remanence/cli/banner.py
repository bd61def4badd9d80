"""What a server says when it is ready: where it is, where the data lies, which model answers. Only what is true now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from remanence import __version__
from remanence.cli.command import spelled
from remanence.cli.opening import DEFAULT_MODEL
from remanence.cli.output import bold, clean, dim, say

if TYPE_CHECKING:
    from remanence.agent import Agent
    from remanence.app import Remanence
    from remanence.models.detect import Detected
    from remanence.settings import Configuration

__all__ = ["Line", "api_lines", "console_line", "data_line", "model_line", "print_ready", "try_lines", "worker_line"]

_NAME_WIDTH = 11
_VALUE_WIDTH_MAX = 44


class Line(NamedTuple):
    """One line: a name, what it is, and a remark."""

    name: str
    value: str
    remark: str = ""


def print_ready(title: str, seconds: float, lines: Sequence[Line]) -> None:
    """Print the head line, then the lines with their remarks under each other."""
    say(f"{bold(f'remanence {__version__}')}  {title + ' ' if title else ''}ready in {seconds:.2f} s")
    width = max((len(line.value) for line in lines if line.remark and len(line.value) <= _VALUE_WIDTH_MAX), default=0)
    for name, value, remark in lines:
        told = f"{clean(value).ljust(width)}   {dim(clean(remark))}" if remark else clean(value)
        say(f"  {dim(name.ljust(_NAME_WIDTH))}{told}")


def api_lines(url: str) -> list[Line]:
    """What is served."""
    return [
        Line("API", f"{url}/v1", "Agents, Responses, Conversations, Chat; /admin/v1"),
        Line("Docs", f"{url}/docs"),
    ]


def console_line(url: str) -> Line:
    """Where people look. With a token in it the link signs in whoever opens it."""
    if "token=" in url:
        return Line("Console", url, "this link signs you in")
    return Line("Console", f"{url}/", f"sign in with a key: {spelled('keys', 'create', 'NAME', '--scope', 'admin')}")


def data_line(rt: Remanence) -> Line:
    """Where the journals are, and what they survive. Both stores refuse to open in any weaker mode than they say."""
    if rt.options.ephemeral:
        return Line("Data", "a temporary file", "--ephemeral: the sessions end with this process")
    if not rt.url.startswith("sqlite:///"):
        return Line("Data", rt.database.url, "PostgreSQL, synchronous_commit=on: sessions survive crashes")
    path = Path(rt.url.removeprefix("sqlite:///"))
    shown = f"./{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)
    return Line("Data", shown, "SQLite WAL, synchronous=FULL: sessions survive crashes")


def worker_line(rt: Remanence, agents: Sequence[Agent]) -> Line:
    """Who runs sessions here."""
    if rt.worker is None:
        return Line("Worker", "none here", f"sessions wait until one runs: {spelled('worker')}")
    names = ", ".join(agent.spec.name for agent in agents)
    remark = f"agents: {names}" if names else "no Python agents: only sessions whose tools need none of this process"
    return Line("Worker", f"up to {rt.options.sessions_max} sessions at once", remark)


def model_line(configuration: Configuration, agents: Sequence[Agent], detected: Sequence[Detected]) -> Line:
    """Which models the agents here ask, and what else was found. Nothing was spent to find it."""
    default = configuration.settings.model
    used = sorted({default if agent.spec.model == DEFAULT_MODEL else agent.spec.model for agent in agents} or {default})
    shown = ", ".join(f"{name} (no LLM)" if name == "scripted" else name for name in used)
    missing = [f"{one.key_env} is not set" for one in detected if one.model in used and one.note and one.key_env]
    if missing:
        return Line("Model", shown, missing[0])
    if "scripted" not in used:
        return Line("Model", shown)
    found = next((one for one in detected if one.source in ("environment", "server")), None)
    if found is None:
        return Line("Model", shown, f"no key and no local server was found: {spelled('models', 'add', '--help')}")
    advice = f": {spelled('models', 'use', found.model)}" if found.model else ""
    return Line("Model", shown, f"found {found.label}{advice}{f' ({found.note})' if found.note else ''}")


def try_lines(agents: Sequence[Agent], *, ephemeral: bool) -> list[Line]:
    """What to do next. Another process cannot reach the sessions of an ephemeral one."""
    if ephemeral:
        return []
    if not agents:
        return [Line("Try", spelled("init", "hello"), "a first agent, in a folder of its own")]
    durable = "kill this process at any time and run it again: nothing is lost"
    return [Line("Try", spelled("chat", agents[0].spec.name), durable)]
