"""What a terminal, a pipe or a locale does to words on their way in and out: said in a sentence, nothing is begun."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_project import Run, begun, command_line

NO_TEXT = b"caf\xe9"
"""Latin-1, which is no UTF-8."""


def ran(*args: str | bytes, words: bytes = b"", redirect: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in a shell, fed with bytes."""
    line = f'exec "$@" {redirect}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *command_line(), *args], input=words, capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "shop", NO_TEXT), b""),
        (("run", "shop", "hello", "--title", NO_TEXT), b""),
        (("run", "shop", "-"), NO_TEXT),
        (("chat", "shop"), NO_TEXT + b"\n"),
    ],
)
def test_bytes_that_are_no_text_are_refused(
    project: Path, cli: Run, args: tuple[str | bytes, ...], words: bytes
) -> None:
    begun(cli, "hello")
    code, out, err = ran(*args, words=words)
    assert (code, out) == (2, "")
    assert "not text in UTF-8" in err
    assert "Nothing was" in err
    assert "something happened" not in err
    assert len(cli("sessions", "list", "-o", "json").json) == 1


def test_text_arrives_whatever_the_locale(project: Path, cli: Run) -> None:
    command = ["env", "LC_ALL=POSIX", "PYTHONCOERCECLOCALE=0", "PYTHONUTF8=0", *command_line("run", "shop", "é日")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "é日" in cli("sessions", "tail", "last", "-o", "jsonl").out


@pytest.mark.parametrize("output", ["table", "json"])
def test_an_answer_that_cannot_be_printed(project: Path, cli: Run, output: str) -> None:
    begun(cli, "hello")
    code, _, err = ran("sessions", "list", "-o", output, redirect="> /dev/full")
    assert code == 1
    assert err == (
        "remanence: The answer could not be written to stdout (No space left on device). What the command did is done, "
        "and what was acknowledged is kept.\n"
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_terminal_that_is_closed_is_no_error(project: Path, cli: Run, closed: str) -> None:
    begun(cli, "hello")
    code, _, err = ran("sessions", "list", redirect=closed)
    assert (code, err) == (0, "")


NOISY = """
from remanence import Agent, tool

print("an agent's file says hello")


@tool(replay="safe")
def look() -> str:
    \"\"\"Look.\"\"\"
    print("so does a tool")
    return "looked"


shop = Agent("shop", model="default", tools=[look])
"""


def test_what_agents_and_tools_print_is_no_part_of_an_answer(project: Path, process: Run) -> None:
    (project / "agent.py").write_text(NOISY)
    answered = process("run", "shop", "/tool look {}", "-o", "json")
    assert answered.json["text"] == "look returned: looked"
    assert "an agent's file says hello" in answered.err
    assert "so does a tool" in answered.err
    assert process("run", "shop", "/tool look {}").out == "look returned: looked\n"
    assert [agent["agent"] for agent in process("agents", "list", "-o", "json").json] == ["shop"]
    listed = process("agents", "list", "-o", "jsonl").out
    assert len(listed.splitlines()) == 1
    bundle = subprocess.run([*command_line(), "sessions", "export", "last", "-"], capture_output=True, check=True)
    assert bundle.stdout.startswith(b"PK")
