"""From settings to an open runtime, for the command line and the servers it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from remanence.agent import Agent, load_agents, spec_from_file
from remanence.app import Options, Remanence
from remanence.cli.leaving import cut_off
from remanence.cli.output import note
from remanence.commands.consolidation import Consolidating
from remanence.core.ledger import usd_to_micros
from remanence.errors import InvalidConfig, NotFound
from remanence.logs import configure_command_line
from remanence.models.configuration import ModelConfig
from remanence.models.gateway import Gateway
from remanence.models.target import Target
from remanence.ports import Embedder, Model
from remanence.runtime.services import Times
from remanence.settings import FILE_NAME, Configuration, Settings
from remanence.spec import AgentSpec

__all__ = [
    "DEFAULT_MODEL",
    "agents_of",
    "declared",
    "is_target",
    "models_of",
    "opened",
    "runtime_of",
    "with_functions",
]

DEFAULT_MODEL = "default"
"""The name under which an agent asks for the model of the setting `model`, whatever that is at the time."""


@asynccontextmanager
async def opened(
    configuration: Configuration,
    person: str,
    *,
    worker: bool = False,
    create: bool = False,
    agents: Sequence[Agent] = (),
) -> AsyncGenerator[Remanence, None]:
    """The runtime these settings describe, open. A missing database is made with `create`. Only warnings are logged."""
    if not create:
        _check_place(configuration)
    level = configuration.settings.log_level
    level = level if "log_level" in configuration.sources else "warning"
    configure_command_line(level, configuration.settings.log_format)
    _say_if_read_only(configuration.settings.database)
    rt = runtime_of(configuration, actor=person, worker=worker, agents=agents)
    try:
        async with rt:
            yield rt
    finally:
        if rt.cut:
            cut_off(rt.cut)
        structlog.reset_defaults()


def runtime_of(
    configuration: Configuration,
    *,
    actor: str,
    worker: bool = True,
    agents: Sequence[Agent] = (),
    ephemeral: bool = False,
) -> Remanence:
    """A runtime that is not open yet. Raises InvalidConfig when the default model cannot be found."""
    settings = configuration.settings
    worker_settings = msgspec.structs.asdict(settings.worker)
    times = {name: value for name, value in worker_settings.items() if name in Times.__struct_fields__}
    models, configs = models_of(configuration)
    return Remanence(
        settings.database,
        agents=agents,
        models=models,
        model_configs=configs,
        worker=worker,
        options=Options(
            times=Times(**times),
            sessions_max=settings.worker.sessions_max,
            project=settings.project,
            actor=actor,
            root=configuration.root,
            ephemeral=ephemeral,
            input_bytes_max=settings.input_bytes_max,
            mcp_hosts=settings.mcp_hosts,
            consolidating=consolidating_of(settings),
            embedder=embedder_of(settings),
        ),
    )


def consolidating_of(settings: Settings, model: str = "") -> Consolidating | None:
    """How memory is consolidated by these settings; None when no model is named for it."""
    memory = settings.memory
    if not (model or memory.consolidate):
        return None
    return Consolidating(
        model or memory.consolidate,
        episodes_min=memory.consolidate_after,
        quiet_s=memory.consolidate_quiet_s,
        usd_micros=usd_to_micros(memory.consolidate_usd) if memory.consolidate_usd else None,
    )


def embedder_of(settings: Settings) -> Embedder | None:
    """What makes vectors of memories by these settings; None when nothing is named. Raises InvalidConfig."""
    memory = settings.memory
    if memory.embeddings:
        from remanence.models.local_embeddings import LOCAL, LocalEmbeddings

        if not memory.embeddings.startswith(LOCAL) or memory.embeddings_url:
            raise InvalidConfig(
                "`memory.embeddings` is `local:` and the name of a package or a folder, and goes without "
                "`memory.embeddings_url`: name one of them. Nothing was started.",
                param="memory.embeddings",
            )
        return LocalEmbeddings(memory.embeddings.removeprefix(LOCAL))
    if not memory.embeddings_url:
        return None
    key = os.environ.get(memory.embeddings_key_env) if memory.embeddings_key_env else None
    if not memory.embeddings_model or (memory.embeddings_key_env and not key):
        raise InvalidConfig(
            "`memory.embeddings_url` needs `memory.embeddings_model`, and a value in the environment variable that "
            "`memory.embeddings_key_env` names, if it names one. Nothing was started.",
            param="memory.embeddings_model",
        )
    from remanence.models.embeddings import Embeddings  # here: it loads the providers' libraries

    return Embeddings(memory.embeddings_url, memory.embeddings_model, key=key)


def models_of(configuration: Configuration) -> tuple[Mapping[str, Model], Mapping[str, ModelConfig]]:
    """The models of the settings, among them `default`: what the setting `model` names."""
    settings = configuration.settings
    configs = dict(settings.models)
    if DEFAULT_MODEL in configs:
        return {}, configs
    try:
        found = Gateway(configs, root=configuration.root).resolve(settings.model)
    except NotFound as error:
        source = configuration.sources.get("model", FILE_NAME)
        raise InvalidConfig(f"{source}: `model`: {error.message}", param="model") from None
    if not isinstance(found, Target):
        return {DEFAULT_MODEL: found}, configs
    fields = {name: getattr(found, name) for name in ModelConfig.__struct_fields__ if name != "name"}
    return {}, {**configs, DEFAULT_MODEL: ModelConfig(name=DEFAULT_MODEL, **fields)}


def _say_if_read_only(url: str) -> None:
    from remanence.stores.sqlite.read_only import read_only

    path = url.removeprefix("sqlite:///")
    why = read_only(path) if path != url else ""
    if why:
        note(
            f"The database {path} can only be read here: {why}. Nothing can be written; what was not indexed before is "
            "not found by searches."
        )


# --- agents -----------------------------------------------------------------------------------------------------------


def agents_of(configuration: Configuration) -> dict[str, Agent | AgentSpec]:
    """The agents of the setting `agents`, by name. Raises InvalidConfig when two have one name, and what is wrong."""
    found: dict[str, Agent | AgentSpec] = {}
    came_from: dict[str, str] = {}
    for target in configuration.settings.agents:
        for agent in declared(target, configuration.root):
            if agent.name in found:
                other = came_from[agent.name]
                where = f"both in {target}" if other == target else f"in {other} and in {target}"
                raise InvalidConfig(
                    f"Two agents of the setting `agents` are called {agent.name!r}, {where}. Nothing was started; "
                    "rename one.",
                    param="agents",
                )
            found[agent.name], came_from[agent.name] = agent, target
    return found


def with_functions(agents: Iterable[Agent | AgentSpec]) -> list[Agent]:
    """Those that a worker has to be given, because their tools are Python functions."""
    return [agent for agent in agents if isinstance(agent, Agent)]


def is_target(text: str) -> bool:
    """Whether it says where an agent is declared, and is not merely an agent's name."""
    return ":" in text or Path(text).suffix in (".py", ".toml", ".json")


def declared(target: str, root: Path) -> Sequence[Agent | AgentSpec]:
    """What a target declares: Python agents, or the one of a `.toml` or `.json` file. Paths start at `root`."""
    path = Path(target.partition(":")[0])
    if path.suffix in (".toml", ".json"):
        return [spec_from_file(root / target)]
    if path.suffix == ".py":
        _, colon, name = target.partition(":")
        return load_agents(f"{root / path}{colon}{name}")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return load_agents(target)


# --- the place --------------------------------------------------------------------------------------------------------


def _check_place(configuration: Configuration) -> None:
    """A folder that has nothing to do with a project must not get a database because somebody typed `list` in it."""
    url = configuration.settings.database
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or path.exists():
        return
    if configuration.file is None and "database" not in configuration.sources:
        raise NotFound(
            f"There is no project here: no {FILE_NAME} in this folder or above it, and no database {path}. Nothing "
            "was made. Go to the project's folder, name the database with --database, or begin one: remanence init NAME"
        )
    source = configuration.sources.get("database")
    if source is not None and (configuration.file is None or source != configuration.file.name):
        raise NotFound(f"There is no database {path}. Nothing was made; check the path.", param="database")
