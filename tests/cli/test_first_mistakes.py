"""What newcomers get wrong first: each time nothing is left behind, and the answer says what to do next."""

from __future__ import annotations

from pathlib import Path

from a_terminal import Terminal
from cli_project import BIG_REFUND, Run, begun


def test_an_empty_input_opens_no_session(project: Path, cli: Run) -> None:
    for said in ("", "   "):
        ran = cli("run", "shop", said)
        assert (ran.code, ran.err) == (2, "remanence: The input is empty. Nothing was written; say something.\n")
    assert cli("run", "shop", "-", text="\n").code == 2
    begun(cli, "hello")
    assert len(cli("sessions", "list", "-o", "json").json) == 1


def test_what_is_said_to_a_frozen_session_is_kept_and_not_promised(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    cli("sessions", "freeze", session)
    ran = cli("sessions", "send", session, "are you there?")
    assert ran.code == 0, ran
    assert ran.out == f"Accepted as record 8 of {session}; a worker answers it once the freeze is lifted.\n"
    assert f"Waiting: The session is frozen (ada).\n  remanence sessions thaw {session}\n" in ran.err
    cli("sessions", "freeze", "--all")
    ran = cli("run", "--no-wait", "shop", "and you?")
    assert "once the freeze is lifted" in ran.err
    assert "remanence sessions thaw --all" in ran.err
    again = cli("sessions", "freeze", session)
    assert again.err == f"remanence: Session {session} is frozen already (ada), and stays so until it is thawed.\n"


def test_what_cannot_be_taken_back_is_not_done_where_nobody_can_be_asked(project: Path, cli: Run) -> None:
    session = begun(cli, "my locker is number 12")
    ran = cli("memory", "erase", "session", session, "--reason", "asked to", text="y\n")
    assert ran.code == 2
    assert "there is no terminal to ask in. Nothing was erased; say --yes." in ran.err
    assert "my locker" in cli("sessions", "tail", session).out


def test_a_denial_may_call_its_note_a_reason(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert cli("approvals", "deny", session, "--yes", "--reason", "too dear").code == 0
    assert "denied by ada: too dear" in cli("sessions", "tail", session).out


def test_an_import_over_what_is_there_says_how_to_do_it(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    cli("sessions", "export", session, "it.remanence")
    ran = cli("sessions", "import", "it.remanence")
    assert ran.code == 4
    assert "nothing was imported. Import the file under another id (`--as-session`" in ran.err


def test_a_key_is_revoked_by_its_id_and_by_a_name_that_is_its_own(project: Path, cli: Run) -> None:
    first, second = (cli("keys", "create", "laptop", "-o", "json").json["key"] for _ in range(2))
    ran = cli("keys", "revoke", "phone")
    assert (ran.code, "`remanence keys list` shows those there are, each with its id." in ran.err) == (3, True)
    ran = cli("keys", "revoke", "laptop")
    assert (ran.code, f"2 keys are called 'laptop': rmn_{first['id']}_, rmn_{second['id']}_." in ran.err) == (4, True)
    assert cli("keys", "revoke", first["id"]).code == 0
    assert f"Key {second['id']} (laptop) opens nothing any more" in cli("keys", "revoke", "laptop").out
    assert [key["revoked_at"] is None for key in cli("keys", "list", "-o", "json").json] == [False, False]


def test_a_file_that_runs_itself_is_told_where_that_belongs(project: Path, cli: Run) -> None:
    Path("own.py").write_text(
        "import asyncio\nfrom remanence import Agent\n\nown = Agent('own', model='default')\n\n\n"
        "async def main():\n    pass\n\n\nmain_ = main()\ntry:\n    asyncio.run(main_)\nfinally:\n    main_.close()\n",
        encoding="utf-8",
    )
    ran = cli("run", "own.py", "hello")
    assert ran.code == 2
    assert "(own.py, line 13): RuntimeError: asyncio.run() cannot be called" in ran.err
    assert 'belongs under `if __name__ == "__main__":`' in ran.err
    Path("own.py").write_text("def broken(:\n", encoding="utf-8")
    ran = cli("agents", "validate", "own.py")
    assert ran.err.endswith("SyntaxError: invalid syntax. Nothing was kept; mend the file and try again.\n")


def test_a_model_that_is_not_here_is_said_when_its_agent_is_checked(project: Path, cli: Run) -> None:
    Path("own.toml").write_text('name = "own"\nmodel = "opnai:gpt-6-luna"\n', encoding="utf-8")
    ran = cli("agents", "validate", "own.toml")
    assert (ran.code, ran.out.endswith(" is valid: opnai:gpt-6-luna, no tools\n")) == (0, True)
    assert "Where own runs, its model has to be known; here it is not. There is no model 'opnai:gpt-6-luna'." in ran.err
    assert cli("agents", "validate").err == ""


def test_a_folder_with_a_space_is_made_and_named_as_a_shell_reads_it(folder: Path, cli: Run) -> None:
    ran = cli("init", "my shops/shop")
    assert (ran.code, "  cd 'my shops/shop'\n" in ran.out) == (0, True)


def test_in_a_terminal_somebody_is_asked(project: Path, cli: Run) -> None:
    session = begun(cli, "my locker is number 12")
    terminal = Terminal("memory", "erase", "session", session, "--reason", "asked to")
    terminal.until(f"Erase session {session} for good? [y/N]")
    terminal.type("n\r")
    assert terminal.close() == 130
    assert "my locker" in cli("sessions", "tail", session).out
