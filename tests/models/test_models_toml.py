"""The tables `[models.NAME]`: read strictly, written without touching the rest of the file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.errors import Conflict, InvalidConfig
from remanence.models.configuration import ModelConfig, add_model, parse_models, table_of, use_model
from remanence.models.prices import Prices

FULL = """\
# The shop's models.
[server]
port = 7410   # not the default

[models.fast]      # a small one
base_url = "http://127.0.0.1:11434/v1"
model = "qwen3:8b"
key_env = "FAST_KEY"
prices = { input = "0.25", output = 2, cached = 0.03 }
context_window = 32768

# The good one.
[models.good]
provider = "anthropic"
model = "claude-sonnet-5-5"
cache = true
"""

FAST = ModelConfig(
    "fast",
    "qwen3:8b",
    base_url="http://127.0.0.1:11434/v1",
    key_env="FAST_KEY",
    prices=Prices(250_000, 2_000_000, cached=30_000),
    context_window=32_768,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "remanence.toml"


def read_models(path: Path) -> dict[str, ModelConfig]:
    return parse_models(tomllib.loads(path.read_text()).get("models", {}))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_models_are_read_from_a_file(path: Path) -> None:
    path.write_text(FULL)
    good = ModelConfig("good", "claude-sonnet-5-5", provider="anthropic", cache=True)
    assert read_models(path) == {"fast": FAST, "good": good}


def test_a_model_is_called_by_its_name_unless_told_otherwise() -> None:
    assert parse_models({"qwen3": {"base_url": "http://localhost:1/v1"}})["qwen3"].model == "qwen3"


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ({}, "base_url"),
        ({"base_url": "localhost:1"}, "http"),
        ({"base_url": "http://me:secret@host/v1"}, "key_env"),
        ({"provider": "openay"}, "openay"),
        ({"base_url": "http://h/v1", "api": "soap"}, "api"),
        ({"base_url": "http://h/v1", "key": "sk-1"}, "'key'"),
        ({"base_url": "http://h/v1", "prices": {"input": "1"}}, "output"),
        ({"base_url": "http://h/v1", "prices": {"input": "1", "output": "x"}}, "output"),
        ({"base_url": "http://h/v1", "context_window": 0}, "context_window"),
        ({"base_url": 7}, "expected a text"),
        ("fast", "table"),
    ],
)
def test_what_cannot_be_used_is_named(table: object, names: str) -> None:
    with pytest.raises(InvalidConfig, match=names) as caught:
        parse_models({"fast": table})
    assert "models.fast" in caught.value.message
    assert "secret" not in caught.value.message.replace("holds a secret", "")


def test_a_file_that_is_not_toml_is_named(path: Path) -> None:
    path.write_text("models = [")
    with pytest.raises(InvalidConfig, match=r"remanence\.toml"):
        add_model(path, FAST)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfig, match="UTF-8"):
        add_model(path, FAST)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_model_is_added_to_a_file_that_is_not_there(path: Path) -> None:
    written = add_model(path / "deeper" / "remanence.toml", FAST)
    assert written.startswith("[models.fast]\n")
    assert read_models(path / "deeper" / "remanence.toml") == {"fast": FAST}


def test_adding_keeps_every_line_that_was_there(path: Path) -> None:
    path.write_text(FULL)
    add_model(path, ModelConfig("third", "x", base_url="https://h/v1", api="responses"))
    assert path.read_text().startswith(FULL)
    assert list(read_models(path)) == ["fast", "good", "third"]


def test_a_name_that_is_taken_is_refused_unless_it_shall_be_replaced(path: Path) -> None:
    path.write_text(FULL)
    other = ModelConfig("fast", "other", base_url="https://h/v1")
    with pytest.raises(Conflict, match="fast"):
        add_model(path, other)
    assert path.read_text() == FULL
    add_model(path, other, replace=True)
    text = path.read_text()
    assert read_models(path)["fast"] == other
    assert read_models(path)["good"].cache
    for comment in ("# The shop's models.", "# not the default", "# The good one."):
        assert comment in text


def test_replacing_takes_the_tables_below_with_it(path: Path) -> None:
    path.write_text(
        '[models.fast]\nbase_url = "http://h/v1"\n[models.fast.prices]\ninput = "1"\noutput = "1"\n[b]\nx = 1\n'
    )
    add_model(path, ModelConfig("fast", "m", base_url="http://h/v1"), replace=True)
    assert tomllib.loads(path.read_text())["b"] == {"x": 1}
    assert read_models(path)["fast"].prices is None


@pytest.mark.parametrize(
    "text",
    ['models = { fast = { base_url = "http://h/v1" } }\n', '[models]\nfast.base_url = "http://h/v1"\n'],
)
def test_a_file_written_in_another_way_is_left_alone(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=r"by hand:\n\n\[models\.fast\]"):
        add_model(path, FAST, replace=True)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("a b", base_url="http://h/v1"),
        ModelConfig("a", base_url="http://h/v1", model="x\x7f"),
        ModelConfig("a", base_url="nowhere"),
        ModelConfig("a"),
    ],
)
def test_a_value_that_could_not_be_read_again_is_not_written(path: Path, config: ModelConfig) -> None:
    with pytest.raises(InvalidConfig):
        add_model(path, config)
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfig, match="could not be written"):
        add_model(tmp_path / "file" / "remanence.toml", FAST)


def test_the_permissions_of_the_file_are_kept(path: Path) -> None:
    path.write_text("")
    path.chmod(0o600)
    add_model(path, FAST)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'model = "fast"\n'),
        ("# mine\nport = 1\n", '# mine\nport = 1\nmodel = "fast"\n'),
        ('model = "old" # why\n[server]\n', 'model = "fast"\n[server]\n'),
        ("# about the server\n[server]\nport = 1\n", 'model = "fast"\n\n# about the server\n[server]\nport = 1\n'),
        ('[server]\nmodel = "not this"\n', 'model = "fast"\n\n[server]\nmodel = "not this"\n'),
        ("port = 1\r\n[server]\r\n", 'port = 1\nmodel = "fast"\n\n[server]\r\n'),
    ],
)
def test_a_default_model_is_set_at_the_top(path: Path, before: str, after: str) -> None:
    path.write_bytes(before.encode())
    use_model(path, "fast")
    assert path.read_bytes().decode() == after


names = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
prices = st.none() | st.builds(Prices, *[st.integers(0, 10**10)] * 2, st.none() | st.integers(0, 10**10))


@given(
    st.builds(ModelConfig, names, texts, st.just("openai"), st.just("https://h/v1"), prices=prices, cache=st.booleans())
)
def test_what_is_written_is_what_is_read(config: ModelConfig) -> None:
    assert parse_models(tomllib.loads(table_of(config))["models"]) == {config.name: config}
