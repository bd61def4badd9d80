"""`models ...`: what is there, what is used, and a real server of this machine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_project import Run
from inline_snapshot import snapshot

from remanence.testing.wire import Answer, WireServer

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "MISTRAL_API_KEY", "HF_TOKEN")


@pytest.fixture(autouse=True)
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of this machine is seen."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def settings() -> dict[str, Any]:
    return tomllib.loads(Path("remanence.toml").read_text())


def test_list_without_anything(project: Path, cli: Run) -> None:
    assert cli("models", "list", "-o", "json").json == snapshot(
        [
            {
                "model": "scripted",
                "source": "scripted",
                "label": "no language model: an honest placeholder, for trying tools",
                "url": "",
                "key_env": "",
                "models": [],
                "note": "",
                "default": True,
            }
        ]
    )
    ran = cli("models", "list")
    assert ran.out.splitlines()[1].startswith("*  scripted")
    assert ran.err == ""


def test_list_shows_keys_by_name_only(project: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-123")
    ran = cli("models", "list")
    assert "ANTHROPIC_API_KEY" in ran.out
    assert "secret-123" not in ran.out + ran.err
    assert "remanence models use anthropic:" in ran.err


def test_detect_and_use_a_server_of_this_machine(project: Path, cli: Run, served: WireServer) -> None:
    port = str(served.port)
    found = cli("models", "detect", "--port", port, "-o", "json").json
    assert ("server", ["tiny", "small"]) in [(one["source"], one["models"]) for one in found]
    ran = cli("models", "use", "small", "--port", port)
    assert ran.code == 0, ran.err
    assert settings() == {
        "agents": ["agent.py"],
        "model": "local",
        "worker": {"lease_s": 3},
        "models": {"local": {"base_url": f"http://127.0.0.1:{port}/v1", "api": "chat", "model": "small"}},
    }
    # The agent names the model `default`, so it is used from now on.
    ran = cli("run", "shop", "hello")
    assert ran.out == "hello from the server\n"
    assert served.requests[-1].body["model"] == "small"
    assert [one["model"] for one in cli("models", "list", "-o", "json").json if one["default"]] == ["local"]


def test_use_of_what_is_not_there(project: Path, cli: Run) -> None:
    before = settings()
    ran = cli("models", "use", "nonsense")
    assert ran.code == 3
    assert "remanence models detect" in ran.err
    assert settings() == before


def test_use_a_provider(project: Path, cli: Run) -> None:
    assert cli("models", "use", "openai:gpt-6-luna", "-o", "json").json["table"] == ""
    assert settings()["model"] == "openai:gpt-6-luna"


def test_add(project: Path, cli: Run, served: WireServer) -> None:
    add = ("models", "add", "fast", "--base-url", f"{served.url}/v1", "--model", "tiny")
    ran = cli(*add, "--price-input", "0.25", "--price-output", "2", "--use", "-o", "json")
    assert ran.json["default"] is True
    assert settings()["models"]["fast"]["prices"] == {"input": "0.25", "output": "2"}
    assert settings()["worker"] == {"lease_s": 3}
    ran = cli(*add)
    assert ran.code == 4
    assert "already names a model 'fast'" in ran.err
    assert cli(*add, "--replace", "--context-window", "4096").code == 0
    assert settings()["models"]["fast"]["context_window"] == 4096


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("bad name", "--base-url", "http://x/v1"), "a name has letters, digits"),
        (("x",), "Say who serves it: --base-url URL"),
        (("x", "--base-url", "ftp://x"), "must begin with http"),
        (("x", "--base-url", "http://a:b@x/v1"), "holds a secret"),
        (("x", "--provider", "nobody"), "is not known"),
        (("x", "--base-url", "http://x/v1", "--price-input", "1"), "Give both"),
        (("x", "--base-url", "http://x/v1", "--price-input", "cheap", "--price-output", "1"), "is not a price"),
    ],
)
def test_a_model_that_cannot_be_added(project: Path, cli: Run, args: tuple[str, ...], said: str) -> None:
    before = settings()
    ran = cli("models", "add", *args)
    assert ran.code == 2
    assert said in ran.err
    assert settings() == before


def test_try_one(project: Path, cli: Run, served: WireServer) -> None:
    cli("models", "add", "fast", "--base-url", f"{served.url}/v1", "--model", "tiny")
    shape = cli("models", "test", "fast", "-o", "json").json
    assert shape["ms"] >= 0
    assert {**shape, "ms": 0} == snapshot(
        {
            "model": "fast",
            "answered": True,
            "said": "hello from the server",
            "ms": 0,
            "input_tokens": 100,
            "output_tokens": 20,
            "usd_micros": None,
            "served_by": "tiny",
            "error": "",
        }
    )
    assert "fast answered in" in cli("models", "test", "fast").out
    served.answer_with(*[Answer(status=401)] * 9)
    ran = cli("models", "test", "fast")
    assert ran.code == 1
    assert "fast did not answer (authentication" in ran.err
    assert cli("models", "test").code == 0
    assert cli("models", "test", "nonsense").code == 3


def test_a_default_that_cannot_be_found(project: Path, cli: Run) -> None:
    Path("remanence.toml").write_text('agents = ["agent.py"]\nmodel = "nonsense"\n')
    ran = cli("run", "shop", "hello")
    assert ran.code == 2
    assert "remanence.toml: `model`: There is no model 'nonsense'" in ran.err


def test_a_model_that_cannot_be_is_said_with_its_file_and_what_was_kept(project: Path, cli: Run) -> None:
    before = Path("remanence.toml").read_text()
    ran = cli("models", "add", "x", "--base-url", "http://127.0.0.1:99999/v1")
    assert (ran.code, ran.err.endswith("a port is at most 65535. Nothing was written.\n")) == (2, True)
    assert Path("remanence.toml").read_text() == before
    Path("remanence.toml").write_text(before + '\n[models.x]\nbase_url = "nowhere"\n')
    for words in (("agents", "list"), ("sessions", "list"), ("models", "list")):
        ran = cli(*words)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("remanence: remanence.toml: models.x.base_url must begin with http://")
        assert ran.err.endswith("Nothing was started.\n")
    Path("remanence.toml").write_text(before)
