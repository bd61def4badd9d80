"""Settings: where they come from, which wins, and what is said about one that is wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cli_project import Run

from remanence.errors import InvalidConfig
from remanence.runtime.services import Services, Times
from remanence.settings import Configuration, Settings, WorkerSettings, load, settings_known


def wrong(folder: Path, text: str = "", **variables: str) -> str:
    """What is said about a file or variables that are wrong."""
    if text:
        (folder / "remanence.toml").write_text(text)
    with pytest.raises(InvalidConfig) as raised:
        load(folder, variables)
    return raised.value.message


# --- where they come from ---------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    found = load(tmp_path, {})
    assert found == Configuration(
        Settings(database=f"sqlite:///{tmp_path}/.remanence/remanence.db"), root=tmp_path, file=None, sources={}
    )


def test_the_file_the_variable_the_option(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_text('port = 1\nproject = "file"\nhost = "file"\n[worker]\nlease_s = 5\n')
    variables = {"REMANENCE_PROJECT": "variable", "REMANENCE_HOST": "variable", "REMANENCE_WORKER_LINGER_S": "0.5"}
    found = load(tmp_path, variables, {"host": "option"})
    s = found.settings
    assert (s.port, s.project, s.host, s.worker.lease_s, s.worker.linger_s) == (1, "variable", "option", 5.0, 0.5)
    assert found.sources == {
        "port": "remanence.toml",
        "project": "REMANENCE_PROJECT",
        "host": "--host",
        "worker.lease_s": "remanence.toml",
        "worker.linger_s": "REMANENCE_WORKER_LINGER_S",
    }


def test_the_file_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_text('agents = ["agent.py"]\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = load(below, {})
    assert (found.root, found.file) == (tmp_path, tmp_path / "remanence.toml")
    assert found.settings.database == f"sqlite:///{tmp_path}/.remanence/remanence.db"


def test_a_relative_database_starts_where_it_was_said(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_text('database = "sqlite:///x.db"\n')
    below = tmp_path / "below"
    below.mkdir()
    assert load(below, {}).settings.database == f"sqlite:///{tmp_path}/x.db"
    assert load(below, {}, {"database": "sqlite:///x.db"}).settings.database == f"sqlite:///{below}/x.db"
    for url in ("sqlite:////x.db", "sqlite:///:memory:", "postgresql://ada@host/x"):
        assert load(below, {"REMANENCE_DATABASE": url}).settings.database == url


def test_another_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("port = 2\n")
    assert load(tmp_path, {}, file=tmp_path / "other.toml").settings.port == 2
    assert load(tmp_path, {"REMANENCE_CONFIG": "other.toml"}).settings.port == 2
    assert "There is no settings file" in wrong(tmp_path, REMANENCE_CONFIG="missing.toml")


def test_variables_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    variables = {"REMANENCE_AGENTS": "a.py, b:c,", "REMANENCE_OPEN_BROWSER": "false", "REMANENCE_LOG_LEVEL": "debug"}
    s = load(tmp_path, variables).settings
    assert (s.agents, s.open_browser, s.log_level) == (("a.py", "b:c"), False, "debug")


def test_models_are_read(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_text('[models.fast]\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert load(tmp_path, {}).settings.models["fast"].base_url == "http://127.0.0.1:1/v1"


# --- what is wrong with them ------------------------------------------------------------------------------------------


def test_a_misspelt_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert "`databse`. Did you mean `database`?" in wrong(tmp_path, 'databse = "x"\n')
    assert "`worker.lease`. Did you mean `worker.lease_s`?" in wrong(tmp_path, "[worker]\nlease = 3\n")
    assert "There are database, project," in wrong(tmp_path, "zzz = 3\n")


def test_a_misspelt_variable_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean REMANENCE_DATABASE?" in wrong(tmp_path, REMANENCE_DATABSE="x")


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_text('[models.a]\nprovider = "openai"\nkey_env = "REMANENCE_MODELS"\n')
    variables = {
        "REMANENCE_PORT": "tcp://10.0.0.1:7410",
        "REMANENCE_SERVICE_HOST": "10.0.0.1",
        "REMANENCE_PORT_7410_TCP_ADDR": "10.0.0.1",
        "REMANENCE_MODELS": "a key",
        "REMANENCE_UPSTREAM_URL": "http://127.0.0.1:1",
    }
    assert load(tmp_path, variables).settings.port == 7410


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('port = "x"\n', "remanence.toml: `port` cannot be 'x': expected a whole number, got a text"),
        ("port = 70000\n", "`port` cannot be 70000: expected a whole number <= 65535"),
        ("[worker]\nlease_s = 0\n", "`worker.lease_s` cannot be 0: expected a number > 0"),
        ("worker = 3\n", "`worker` must be a table: [worker]"),
        ('agents = "agent.py"\n', "`agents` cannot be 'agent.py': expected a list, got a text"),
        ("[worker]\nlease_s = inf\n", "`worker.lease_s` cannot be inf: it must be a finite number"),
        ('database = "sqlite:///"\n', "`database` cannot be 'sqlite:///': it names no file"),
        ("port = \n", "is not valid TOML: Invalid value (at line 1"),
        ('log_level = "loud"\n', "`log_level` cannot be 'loud': it is one of debug, info, warning, error"),
        ("models = 3\n", "`models` must be tables"),
        ('[models.x]\nurl = "http://x"\n', "models.x has no setting 'url'"),
    ],
)
def test_a_wrong_value_says_where_and_what(tmp_path: Path, text: str, said: str) -> None:
    assert said in wrong(tmp_path, text)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_bytes(b"port = 1 # \xff\n")
    assert "is not UTF-8 text" in wrong(tmp_path)


def test_a_mark_that_editors_put_first_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "remanence.toml").write_bytes(b"\xef\xbb\xbfport = 1\n")
    assert load(tmp_path, {}).settings.port == 1


def test_a_database_without_a_path_would_keep_nothing(tmp_path: Path) -> None:
    assert "it names no file" in wrong(tmp_path, REMANENCE_DATABASE="sqlite:///")
    assert "it names no file" in wrong(tmp_path, REMANENCE_DATABASE="sqlite://")


def test_a_wrong_setting_exits_2(project: Path, cli: Run) -> None:
    (project / "remanence.toml").write_text("prot = 1\n")
    ran = cli("sessions", "list")
    assert (ran.code, ran.out) == (2, "")
    assert "Did you mean `port`?" in ran.err
    assert "Nothing was started" in ran.err


# --- nothing is left out ----------------------------------------------------------------------------------------------


def test_every_setting_is_described() -> None:
    known = settings_known()
    assert len({setting.name for setting in known}) == len(known)
    for setting in known:
        assert setting.description.endswith("."), setting.name


def test_the_worker_has_the_defaults_of_the_runtime() -> None:
    ours = msgspec.structs.asdict(WorkerSettings())
    sessions_max = next(field.default for field in msgspec.structs.fields(Services) if field.name == "sessions_max")
    assert ours == {**msgspec.structs.asdict(Times()), "sessions_max": sessions_max}
