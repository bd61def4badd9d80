"""The command itself: help that loads nothing, exit codes, and no traceback ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_project import Ran, Run, begun, command_line
from click.testing import CliRunner

from remanence.cli.command import Command, Invocation
from remanence.cli.root import COMMANDS, Root, remanence
from remanence.errors import Conflict

HEAVY = {"anthropic", "asyncio", "asyncpg", "fastapi", "msgspec", "openai", "pydantic", "rich", "sqlite3", "structlog"}


def loaded_by(*args: str) -> set[str]:
    """The top-level modules that a command line leaves loaded."""
    program = (
        "import sys\nfrom remanence.cli.root import remanence\n"
        f"try:\n    remanence.main({list(args)!r}, 'remanence')\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})\n"
        "print('LOADED', *[name for name in sys.modules if name.startswith('remanence.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return {name for line in done.stdout.splitlines() if line.startswith("LOADED") for name in line.split()[1:]}


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert loaded.isdisjoint(HEAVY)
    assert {name for name in loaded if name.startswith("remanence.")} <= {
        "remanence.cli",
        "remanence.cli.command",
        "remanence.cli.hanging_up",
        "remanence.cli.output",
        "remanence.cli.root",
        "remanence.errors",
    }


@pytest.mark.parametrize("noun", ["sessions", "approvals", "agents", "models", "budgets"])
def test_the_help_of_a_noun_loads_no_server_and_no_provider(noun: str) -> None:
    heavy = {"anthropic", "asyncpg", "fastapi", "openai", "pydantic", "pydantic_ai", "rich", "uvicorn"}
    assert loaded_by(noun, "--help").isdisjoint(heavy)


def worked_s(*command: str) -> float:
    """How long a process that ends well has a processor, the best of five: how fast it is, not how busy the machine."""
    found: list[float] = []
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def test_help_answers_at_once() -> None:
    # On a slow machine four times what an interpreter takes that loads a part of its own library.
    floor_s = worked_s(sys.executable, "-c", "import asyncio")
    assert worked_s(*command_line("--help")) < max(0.3, 4 * floor_s)


def test_the_table_of_commands_says_what_they_say() -> None:
    context = click.Context(remanence, obj=Invocation())
    for section in COMMANDS.values():
        for name, entry in section.items():
            command = remanence.get_command(context, name)
            assert command is not None
            assert command.get_short_help_str(200) == entry.help


def test_the_command_of_the_package_is_this_one(folder: Path) -> None:
    script = Path(sys.executable).with_name("remanence")
    done = subprocess.run([script, "--version"], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "remanence, version 0.1.0\n"


def test_a_misspelt_command_gets_a_hint(cli: Run) -> None:
    ran = cli("sesions", "list")
    assert ran.code == 2
    assert "sessions" in ran.err


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_each_exit_code(project: Path, process: Run) -> None:
    assert process("run", "shop", "hello").code == 0
    assert process("run", "shop").code == 2
    assert process("run", "nobody", "hello").code == 3
    session = process("sessions", "list", "-o", "json").json[0]["session"]
    assert process("sessions", "cancel", session).code == 4
    assert process("run", "shop", '/tool refund {"order": "1", "cents": 9000}').code == 5


def test_a_failed_turn_exits_1(project: Path, process: Run) -> None:
    (project / "script.json").write_text('{"steps": [{"fail": {"kind": "authentication", "times": 0}}]}')
    (project / "remanence.toml").write_text('agents = ["agent.py"]\nmodel = "scripted:script.json"\n')
    ran = process("run", "shop", "hello", "--json")
    assert ran.code == 1
    assert ran.json["status"] == "failed"
    assert process("run", "shop", "hello").code == 1


# --- errors -----------------------------------------------------------------------------------------------------------


class Broken(Root):
    """A root whose one command raises what it is given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(name="remanence")
        self.error = error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        def raises() -> None:
            raise self.error

        return Command(cmd_name, callback=raises)


def broken(error: BaseException, *args: str) -> Ran:
    result = CliRunner().invoke(Broken(error), ["go", *args], prog_name="remanence")
    return Ran(result.exit_code, result.stdout, result.stderr)


def test_an_unforeseen_error_is_said_without_a_traceback() -> None:
    ran = broken(KeyError("gone"))
    assert ran.code == 1
    assert "KeyError: 'gone'" in ran.err
    assert "The journal is safe" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in broken(KeyError("gone"), "--debug").err


def test_an_error_of_ours_is_its_sentence() -> None:
    assert broken(Conflict("Somebody was first.")) == Ran(4, "", "remanence: Somebody was first.\n")
    assert "Traceback" in broken(Conflict("Somebody was first."), "--debug").err


def test_interruption_is_said() -> None:
    ran = broken(KeyboardInterrupt())
    assert ran.code == 130
    assert "interrupted" in ran.err


def test_an_end_of_file_is_no_interruption() -> None:
    ran = broken(EOFError("the connection ended"))
    assert ran.code == 1
    assert "interrupted" not in ran.err
    assert "EOFError: the connection ended" in ran.err


def test_a_reader_that_leaves_is_no_error(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    command = command_line("sessions", "tail", session, "--raw")
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tail.stdout is not None
    tail.stdout.close()
    _, err = tail.communicate(timeout=60)
    assert (tail.returncode, err) == (0, b"")


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_folder_without_a_project_gets_no_database(folder: Path, cli: Run) -> None:
    ran = cli("sessions", "list")
    assert ran.code == 3
    assert "There is no project here" in ran.err
    assert "remanence init" in ran.err
    assert list(folder.iterdir()) == []


def test_what_governs_a_project_is_not_said_to_a_folder_that_is_none(folder: Path, cli: Run) -> None:
    """A hold, a grant or a limit that lands in a database made for it governs nothing, and looks as if it did."""
    for command in (
        ("memory", "hold", "user:ada", "--reason", "a court asked"),
        ("memory", "attach", "shelf", "agent:shop"),
        ("memory", "detach", "shelf", "agent:shop"),
        ("memory", "grant", "shelf", "agent:shop", "--read", "user"),
        ("memory", "revoke", "shelf", "agent:shop"),
        ("budgets", "set", "user:ada", "--usd", "5"),
    ):
        ran = cli(*command)
        assert (ran.code, "There is no project here" in ran.err) == (3, True), ran
        ran = cli(*command, "--database", "sqlite:///typed-wrong.db")
        assert (ran.code, "There is no database" in ran.err) == (3, True), ran
    assert list(folder.iterdir()) == []


def test_a_database_that_is_not_there_is_not_made(folder: Path, cli: Run) -> None:
    ran = cli("--database", "sqlite:///nowhere.db", "sessions", "list")
    assert ran.code == 3
    assert "nowhere.db" in ran.err
    assert list(folder.iterdir()) == []


def test_a_project_without_sessions_says_how_to_begin(project: Path, cli: Run) -> None:
    ran = cli("sessions", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "remanence chat" in ran.err


def test_shared_options_stand_anywhere(project: Path, cli: Run) -> None:
    first = cli("--database", "sqlite:///other.db", "run", "shop", "hello")
    assert first.code == 0
    assert cli("sessions", "--database", "sqlite:///other.db", "list", "-o", "json").json[0]["agent"] == "shop"
    assert len(cli("sessions", "list", "-o", "json", "--database", "sqlite:///other.db").json) == 1
    assert cli("sessions", "list", "-o", "json").json == []


def test_a_command_that_is_named_works_with_the_same_database(project: Path, cli: Run) -> None:
    ran = cli("--database", "sqlite:///other.db", "run", "shop", '/tool refund {"order": "1", "cents": 9000}')
    assert ran.code == 5
    line = next(line for line in ran.err.splitlines() if "approvals approve" in line)
    assert cli(*line.split()[1:]).code == 0


def test_a_database_of_another_kind_is_refused(folder: Path, cli: Run) -> None:
    ran = cli("--database", "mysql://root@host/x", "sessions", "list")
    assert ran.code == 2
    assert "sqlite:///PATH" in ran.err


def test_completion_scripts(cli: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        ran = cli("completion", shell)
        assert ran.code == 0
        assert "_REMANENCE_COMPLETE" in ran.out
    assert cli("completion", "cmd").code == 2


def test_completion_knows_the_verbs(folder: Path) -> None:
    environment = {"_REMANENCE_COMPLETE": "bash_complete", "COMP_WORDS": "remanence sessions ", "COMP_CWORD": "2"}
    script = Path(sys.executable).with_name("remanence")
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "plain,tail" in done.stdout


def test_a_number_that_is_none_is_called_a_number(project: Path, cli: Run) -> None:
    assert "'ten' is not a valid whole number" in cli("sessions", "list", "--limit", "ten").err
    assert "'soon' is not a valid number" in cli("models", "test", "--timeout-s", "soon").err


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    words = " ".join(command_line("sessions", "list"))
    done = subprocess.run(
        ["sh", "-c", f"rmdir ../gone; {words}"], cwd=tmp_path / "gone", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "remanence: The folder you are in does not exist any more. Nothing was done; go to one that does.\n"
    )
