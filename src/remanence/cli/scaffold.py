"""`init`: a folder with a first agent in it."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from remanence.cli.command import Command
from remanence.cli.output import say
from remanence.errors import Conflict, InvalidInput, StoreError, StoreFull, no_room

__all__ = ["init"]

SETTINGS = """\
# The settings of this project. Relative paths start here.
agents = ["agent.py"]

# The model of agents that name `default`: `remanence models detect` finds some, `remanence models use NAME` sets it.
model = "scripted"
"""

AGENT = '''\
from remanence import Agent, tool


@tool(replay="never", approval="cents > 5000")  # may not run twice; big ones ask a person
def refund(order: str, cents: int, effect_key: str) -> str:
    """Refund an order. `cents` is the amount."""
    # Call your shop here. Hand it `effect_key`: it is the same on every retry.
    return f"refunded {{cents}} cents for order {{order}}"


agent = Agent("{name}", model="default", instructions="You help customers of a small shop.", tools=[refund])
'''

README = """\
# {name}

`remanence chat {name}` talks with the agent; `remanence dev` runs the server. Without a language model, try the tool by
hand: `/tool refund {{"order": "42", "cents": 900}}`, and with 9000 cents, which waits for your approval.
"""

IGNORED = ".remanence/\n__pycache__/\n"


@click.command(cls=Command)
@click.argument("name")
def init(name: str) -> None:
    """Make a folder with a first agent in it.

    NAME is the folder to make, and the agent's name. Nothing that is there is overwritten.
    """
    folder = Path(name)
    agent = folder.name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", agent):
        raise InvalidInput(
            f"{name!r} cannot name an agent: use letters, digits, - and _, and begin with a letter. Nothing was made.",
            param="name",
        )
    files = {
        "remanence.toml": SETTINGS,
        "agent.py": AGENT.format(name=agent),
        ".gitignore": IGNORED,
        "README.md": README.format(name=agent),
    }
    taken = [file for file in files if (folder / file).exists()]
    if taken or folder.is_file():
        there = ", ".join(str(folder / file) for file in taken) or str(folder)
        raise Conflict(f"There is {there} already. Nothing was written; choose another name, or remove what is there.")
    _write(folder, files)
    say(f"Made {folder}: {', '.join(files)}\n")
    say(f"  cd {shlex.quote(str(folder))}")
    say("  remanence chat     talk with it in the terminal\n  remanence dev      run the server")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write all of the files, or none: what is begun would be in the way of the next attempt."""
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            made.append(folder / file)
            made[-1].write_text(content, encoding="utf-8")
    except OSError as error:
        for file in made:
            with contextlib.suppress(OSError):
                file.unlink()
        if no_room(error):
            raise StoreFull(
                f"There is no space left for {folder}. No file was made. Make room and try again."
            ) from None
        raise StoreError(
            f"{folder} could not be written: {error.strerror}. No file was made. Check the path and its permissions."
        ) from None
