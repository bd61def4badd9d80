"""The models a project names for itself: the tables `[models.NAME]` of `remanence.toml`.

    [models.fast]
    base_url = "http://127.0.0.1:11434/v1"     # any server that speaks one of three wire formats ...
    api = "chat"                               # ... "chat" (the default), "responses" or "anthropic"
    model = "qwen3:8b"                         # what the server calls it; by default NAME
    key_env = "FAST_KEY"                       # the variable that holds the key; the key itself is never written down
    prices = { input = "0.25", output = "2", cached = "0.03" }      # USD per million tokens
    context_window = 32768

or, for a provider that is known by name, `provider = "anthropic"` in place of `base_url`. Both together mean a proxy:
requests go to `base_url`, prices come from the provider's list.

Writing keeps the rest of the file as it is, comments included: a table is appended or replaced as text, the result is
parsed again, and only a text that means what was asked for reaches the disk.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from remanence.errors import Conflict, InvalidConfig, StoreFull, no_room, plain_words
from remanence.models.prices import Prices, micros_per_million
from remanence.models.providers import PROVIDERS

__all__ = ["Api", "ModelConfig", "add_model", "check_config", "is_address", "parse_models", "table_of", "use_model"]

Api = Literal["chat", "responses", "anthropic"]
"""The wire format of a server: OpenAI's Chat Completions, OpenAI's Responses, or Anthropic's Messages."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_FIELDS = ("provider", "base_url", "api", "model", "key_env", "prices", "context_window", "cache")
_USD = ("input", "output", "cached", "cache_write")


class ModelConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model under a name of the project's own. Give `provider`, `base_url` or both.

    `cache` asks for prompt caching where a provider only caches when asked (Anthropic): reading a cached prefix is much
    cheaper, writing it a quarter dearer. `context_window` is in tokens.
    """

    name: str
    model: str = ""
    provider: str = ""
    base_url: str = ""
    api: Api = "chat"
    key_env: str = ""
    prices: Prices | None = None
    context_window: int | None = None
    cache: bool = False


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_models(tables: Any, *, source: str = "", kept: str = "Nothing was started.") -> dict[str, ModelConfig]:
    """The parsed `models` table of a configuration file as values, by name.

    Raises `InvalidConfig`, which begins with `source` (where it stands) and ends with `kept`.
    """
    try:
        if not isinstance(tables, Mapping):
            raise InvalidConfig("`models` must be tables, one for each model: [models.NAME].", param="models")
        return {str(name): _parse_one(str(name), table) for name, table in tables.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    except InvalidConfig as error:
        said = f"{source}: {error.message}" if source else error.message
        raise InvalidConfig(f"{said} {kept}", param=error.param) from None


def _parse_one(name: str, table: Any) -> ModelConfig:
    where = f"models.{name}"
    if not _NAME.fullmatch(name):
        raise InvalidConfig(f"{name!r} is not a name for a model: use letters, digits, `-` and `_`.", param=where)
    if not isinstance(table, Mapping):
        raise InvalidConfig(f"{where} must be a table: [{where}].", param=where)
    given: dict[str, Any] = {str(key): value for key, value in table.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    for key in given:
        if key not in _FIELDS:
            raise InvalidConfig(f"{where} has no setting {key!r}; it may have {', '.join(_FIELDS)}.", param=where)
    if "prices" in given:
        given["prices"] = _parse_prices(given["prices"], f"{where}.prices")
    try:
        config = msgspec.convert({"model": name, **given, "name": name}, ModelConfig)
    except msgspec.ValidationError as error:
        words = plain_words(str(error))
        raise InvalidConfig(f"{where} cannot be used: {words}.", param=where) from None
    return _checked(config, where)


def check_config(config: object, where: str) -> None:
    """What no file could say, a program should not either. Raises `InvalidConfig`."""
    if not isinstance(config, ModelConfig):
        raise InvalidConfig(f"{where} is {config!r:.100}, and should be a `ModelConfig(...)`.", param="model_configs")
    try:
        msgspec.convert(msgspec.to_builtins(config), ModelConfig)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        words = plain_words(str(error))
        raise InvalidConfig(f"{where} cannot be used: {words}.", param="model_configs") from None
    _checked(config, where)


def _parse_prices(table: Any, where: str) -> dict[str, int]:
    if not isinstance(table, Mapping) or not {"input", "output"} <= set(table) <= set(_USD):  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidConfig(
            f"{where} needs `input` and `output`, and may have `cached` and `cache_write`, in USD per million tokens.",
            param=where,
        )
    return {str(key): micros_per_million(value, f"{where}.{key}") for key, value in table.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _address(url: str) -> SplitResult | None:
    """Its parts; None when nothing can be reached there."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Half an IPv6 address, or a port that is none.
        return None
    return parts if fits else None


def is_address(url: str) -> bool:
    """Whether it can be the address of a server."""
    return _address(url) is not None


def _checked(config: ModelConfig, where: str) -> ModelConfig:
    if not config.provider and not config.base_url:
        raise InvalidConfig(f"{where} needs a `base_url` (any compatible server) or a `provider`.", param=where)
    if config.provider and config.provider not in PROVIDERS and not config.base_url:
        known = ", ".join(sorted(PROVIDERS))
        raise InvalidConfig(f"{where}.provider = {config.provider!r} is not known; known are {known}.", param=where)
    if config.base_url:
        parts = _address(config.base_url)
        if parts is None:
            raise InvalidConfig(
                f"{where}.base_url must begin with http:// or https:// and name a host; a port is at most 65535.",
                param=where,
            )
        if parts.username or parts.password:
            raise InvalidConfig(
                f"{where}.base_url holds a secret. Put it in an environment variable and name that as `key_env`.",
                param=where,
            )
    if config.context_window is not None and config.context_window < 1:
        raise InvalidConfig(f"{where}.context_window must be a number of tokens.", param=where)
    return config


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{path} is not valid TOML: {error}. It was left as it is.") from None


# --- writing ----------------------------------------------------------------------------------------------------------


def table_of(config: ModelConfig) -> str:
    """The `[models.NAME]` table of a model, as TOML text that ends with a newline."""
    lines = [f"[models.{config.name}]"]
    for field in ("provider", "base_url", "api", "model", "key_env"):
        value: str = getattr(config, field)
        if value and not (field == "api" and not config.base_url):
            lines.append(f"{field} = {_quoted(value)}")
    if config.prices is not None:
        pairs = [(key, getattr(config.prices, key)) for key in _USD]
        usd = ", ".join(f'{key} = "{_usd(micros)}"' for key, micros in pairs if micros is not None)
        lines.append(f"prices = {{ {usd} }}")
    if config.context_window is not None:
        lines.append(f"context_window = {config.context_window}")
    if config.cache:
        lines.append("cache = true")
    return "\n".join(lines) + "\n"


def add_model(path: Path, config: ModelConfig, *, replace: bool = False) -> str:
    """Write the table of `config` into the file at `path` (made when missing) and return the table as written.

    Raises `Conflict` when the name is taken and `replace` is false, `InvalidConfig` when the value or the file cannot
    be used; in both cases the file is as it was.
    """
    meant = _value_of(config)
    table = table_of(parse_models({config.name: meant}, kept="Nothing was written.")[config.name])
    text = _read(path)
    before = _parse(text, path)
    models = before.get("models", {})
    taken = config.name in parse_models(models, source=path.name, kept="Nothing was written.")
    if taken and not replace:
        raise Conflict(
            f"{path} already names a model {config.name!r}. It was left as it is; choose another name, or replace it.",
            param=config.name,
        )
    after = _without_table(text, f"models.{config.name}") if taken else text
    after = (after.rstrip("\r\n") + "\n\n" if after.strip() else "") + table
    _write(
        path, after, {**before, "models": {**models, config.name: tomllib.loads(table)["models"][config.name]}}, table
    )
    return table


def use_model(path: Path, model: str) -> None:
    """Make `model` the project's default: the setting `model` at the top of the file. Raises `InvalidConfig`."""
    text = _read(path)
    before = _parse(text, path)
    line = f"model = {_quoted(model)}"
    head, tables = _split_head(text)
    if "model" in before:
        head = re.sub(r"^[ \t]*model[ \t]*=[^\r\n]*", lambda _: line, head, count=1, flags=re.MULTILINE)
    else:
        head = (head.rstrip("\r\n") + "\n" if head.strip() else "") + f"{line}\n" + ("\n" if tables else "")
    _write(path, head + tables, {**before, "model": model}, line)


def _value_of(config: ModelConfig) -> Any:
    try:
        return tomllib.loads(table_of(config))["models"][config.name]
    except (tomllib.TOMLDecodeError, KeyError):
        raise InvalidConfig(
            f"{config.name!r} cannot be written down: a name has letters, digits, `-` and `_`, and values no control "
            "characters. Nothing was changed."
        ) from None


def _split_head(text: str) -> tuple[str, str]:
    """What stands before the first table, and the rest; comments right above that table stay with it."""
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    while 0 < first < len(lines) and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return "".join(lines[:first]), "".join(lines[first:])


def _without_table(text: str, name: str) -> str:
    """The text without `[name]` and the tables under it. Comments above the next table stay with that one."""
    kept: list[str] = []
    skipped: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header:
            if inside:
                kept += _trailing_comments(skipped)
            title = header.group(1).replace('"', "").replace("'", "").replace(" ", "")
            inside, skipped = title == name or title.startswith(f"{name}."), []
        (skipped if inside else kept).append(line)
    return "".join(kept)


def _trailing_comments(lines: list[str]) -> list[str]:
    start = len(lines)
    while start > 1 and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return lines[start:]


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise InvalidConfig(f"{path} is not UTF-8 text. It was left as it is.") from None


def _write(path: Path, text: str, meant: Mapping[str, Any], lines: str) -> None:
    """Replace the file in one step, and only by a text that parses to what is meant."""
    try:
        holds = tomllib.loads(text) == meant
    except tomllib.TOMLDecodeError:
        holds = False
    if not holds:
        raise InvalidConfig(
            f"{path} is written in a way that this command cannot change without touching the rest. It was left as it "
            f"is; put this into it by hand:\n\n{lines}"
        )
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(text.encode())
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        if no_room(error):
            raise StoreFull(
                f"There is no space left for {path}. It was left as it is. Make room and try again."
            ) from None
        raise InvalidConfig(f"{path} could not be written: {error.strerror}. It was left as it is.") from None


def _quoted(text: str) -> str:
    # JSON's escapes are a subset of those of a TOML basic string.
    return json.dumps(text, ensure_ascii=False)


def _usd(micros: int) -> str:
    whole, rest = divmod(micros, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
