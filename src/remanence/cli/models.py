"""`models`: which there are, which is used, adding one, trying one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict, Unpack

import click
import msgspec

from remanence.cli.command import Format, Group, Invocation, Number, Whole, asynchronous, leave, spelled
from remanence.cli.output import clean, note, say, shortened, show, sure, table, usd
from remanence.errors import NotFound
from remanence.models.configuration import Api, ModelConfig, add_model, use_model
from remanence.models.detect import LOOPBACK_PORTS, Detected, detect, try_model
from remanence.models.gateway import Gateway
from remanence.models.prices import Prices, micros_per_million
from remanence.settings import FILE_NAME, Configuration

__all__ = ["AddedShape", "ModelShape", "TriedShape", "models"]


class ModelShape(msgspec.Struct, frozen=True):
    """A way to a model. `source` is configuration, environment, server or scripted; `key_env` names the variable that
    holds the key, `note` says what is still missing; `models` are the names a server lists."""

    model: str
    source: str
    label: str
    url: str
    key_env: str
    models: list[str]
    note: str
    default: bool


class AddedShape(msgspec.Struct, frozen=True):
    """What was written into `file`: the `table` of the model (empty: it needed none); whether it is the default now."""

    model: str
    file: str
    table: str
    default: bool


class TriedShape(msgspec.Struct, frozen=True):
    """What one tiny call came to. `said` is the answer, or what went wrong; `usd_micros` is null without a price."""

    model: str
    answered: bool
    said: str
    ms: int
    input_tokens: int
    output_tokens: int
    usd_micros: int | None
    served_by: str
    error: str


USUAL_PORT_S = 0.3
NAMED_PORT_S = 5.0
"""How long servers of this machine are given to list their models."""


@click.group(cls=Group)
def models() -> None:
    """See, choose, add and try models.

    An agent names a model as provider:name, as an alias of remanence.toml, or as `default`: then it is the one of the
    setting `model`, which `models use` changes.
    """


# --- looking ----------------------------------------------------------------------------------------------------------


@models.command("list", shape=list[ModelShape])
@asynchronous
async def list_(call: Invocation, *, output: Format) -> None:
    """Models of the settings, and of providers whose key is set. Nothing is asked or sent."""
    settings = call.configuration.settings
    _show_detected(call, output, await detect(settings.models, os.environ, default=settings.model, ports=()))


_port_option = click.option(
    "--port", "ports", type=Whole(1, 65535), multiple=True, metavar="PORT", help="Look there as well."
)


@models.command("detect", shape=list[ModelShape])
@_port_option
@asynchronous
async def detect_(call: Invocation, *, ports: tuple[int, ...], output: Format) -> None:
    """What could be used here: settings, keys, and servers on this machine (ports 11434, 1234, 8080, 8000).

    Spends nothing: servers of this machine are only asked for their list of models.
    """
    default = call.configuration.settings.model
    _show_detected(call, output, await _detected(call.configuration, ports, default=default))


def _show_detected(call: Invocation, output: Format, found: list[Detected]) -> None:
    # The setting names the scripted model until somebody changes it; it is listed once, at the end.
    found = [one for one in found if not (one.source == "configuration" and one.model.partition(":")[0] == "scripted")]
    shapes = [_shape(one, call.configuration.settings.model) for one in found]
    show(shapes, output, lambda: _print_detected(found, shapes))


async def _detected(configuration: Configuration, ports: tuple[int, ...], *, default: str = "") -> list[Detected]:
    """What is there. A port that somebody names may take its time; the usual ones are only looked at."""
    timeout_s = NAMED_PORT_S if ports else USUAL_PORT_S
    models, asked = configuration.settings.models, (*ports, *LOOPBACK_PORTS)
    return await detect(models, os.environ, default=default, ports=asked, timeout_s=timeout_s)


def _shape(one: Detected, default: str) -> ModelShape:
    used = one.model == default or (one.source == "scripted" and default.startswith("scripted"))
    return ModelShape(one.model, one.source, one.label, one.url, one.key_env, list(one.models), one.note, used)


def _print_detected(found: list[Detected], shapes: list[ModelShape]) -> None:
    rows = [
        ("*" if shape.default else "", shape.model or "-", shape.source, shape.label, shape.note) for shape in shapes
    ]
    table(("", "MODEL", "FROM", "WHAT IT IS", "STILL MISSING"), rows)
    for one in found:
        if len(one.models) > 1:
            note(f"{one.model} serves: {', '.join(one.models[:12])}" + (", ..." if len(one.models) > 12 else ""))
    first = next((one for one in found if one.model and not one.note and one.source != "scripted"), None)
    if first is not None and not any(shape.default and shape.source != "scripted" for shape in shapes):
        note(f"Use one as the default with:\n  {spelled('models', 'use', first.model)}")


# --- choosing ---------------------------------------------------------------------------------------------------------


@models.command("use", shape=AddedShape)
@click.argument("model")
@_port_option
@asynchronous
async def use(call: Invocation, model: str, *, ports: tuple[int, ...], output: Format) -> None:
    """Make MODEL the default, in remanence.toml: an alias, provider:name, or a server that `models detect` found.

    A model that such a server lists can be named as well: its own name.
    """
    configuration = call.configuration
    file, table_text = _file(configuration), ""
    if not _resolves(configuration, model):
        config = await _served_here(configuration, model, ports)
        table_text = add_model(file, config, replace=config.name in configuration.settings.models)
        model = config.name
    use_model(file, model)
    shape = AddedShape(model, str(file), table_text, True)
    words = f'{file}: model = "{clean(model)}". Agents that name the model `default` use it from their next call on.'
    show(shape, output, lambda: say(f"{table_text}{words}\nTry it with:\n  {spelled('models', 'test')}"))


def _file(configuration: Configuration) -> Path:
    return configuration.file or Path.cwd() / FILE_NAME


def _resolves(configuration: Configuration, model: str) -> bool:
    try:
        Gateway(configuration.settings.models, root=configuration.root).resolve(model)
    except NotFound:
        return False
    return True


async def _served_here(configuration: Configuration, model: str, ports: tuple[int, ...]) -> ModelConfig:
    """The table for a server on this machine that is called so or serves a model of that name. Raises NotFound."""
    for one in await _detected(configuration, ports):
        if one.config is not None and (model == one.model or model in one.models):
            return one.config if model == one.model else msgspec.structs.replace(one.config, model=model)
    raise NotFound(
        f"There is no model {model!r}: no alias, no provider:name, and no server on this machine serves it. Nothing "
        f"was changed. `{spelled('models', 'detect')}` shows what there is.",
        param="model",
    )


class AddOptions(TypedDict):
    """The options of `models add`."""

    base_url: str
    provider: str
    api: Api
    model: str
    key_env: str
    price_input: str | None
    price_output: str | None
    context_window: int | None
    use_it: bool
    replace: bool
    output: Format


@models.command("add", shape=AddedShape)
@click.argument("name")
@click.option("--base-url", default="", metavar="URL", help="Any compatible server, such as http://127.0.0.1:11434/v1.")
@click.option("--provider", default="", metavar="NAME", help="A known provider, instead of or behind the URL.")
@click.option(
    "--api",
    type=click.Choice(["chat", "responses", "anthropic"]),
    default="chat",
    show_default=True,
    help="Wire format.",
)
@click.option("--model", default="", metavar="MODEL", help="What the server calls it. Default: NAME.")
@click.option(
    "--key-env", default="", metavar="VARIABLE", help="The variable that holds the key; never the key itself."
)
@click.option("--price-input", metavar="USD", help="Per million input tokens.")
@click.option("--price-output", metavar="USD", help="Per million output tokens.")
@click.option("--context-window", type=Whole(1), metavar="TOKENS", help="How much it reads.")
@click.option("--use", "use_it", is_flag=True, help="Also make it the default.")
@click.option("--replace", is_flag=True, help="Replace a model of this name.")
@click.pass_obj
def add(call: Invocation, name: str, **options: Unpack[AddOptions]) -> None:
    """Write a model under NAME into remanence.toml; the rest of the file stays as it is."""
    if not (options["base_url"] or options["provider"]):
        raise click.UsageError("Say who serves it: --base-url URL (any compatible server) or --provider NAME.")
    file = _file(call.configuration)
    config = ModelConfig(
        name=name,
        model=options["model"] or name,
        provider=options["provider"],
        base_url=options["base_url"],
        api=options["api"],
        key_env=options["key_env"],
        prices=_prices(options),
        context_window=options["context_window"],
    )
    table_text = add_model(file, config, replace=options["replace"])
    if options["use_it"]:
        use_model(file, name)
    shape = AddedShape(name, str(file), table_text, options["use_it"])
    show(
        shape, options["output"], lambda: say(f"{file}:\n{table_text}Try it with:\n  {spelled('models', 'test', name)}")
    )


def _prices(options: AddOptions) -> Prices | None:
    given, out = options["price_input"], options["price_output"]
    if given is None and out is None:
        return None
    if given is None or out is None:
        raise click.UsageError("Give both --price-input and --price-output, or neither.")
    return Prices(micros_per_million(given, "--price-input"), micros_per_million(out, "--price-output"))


# --- trying -----------------------------------------------------------------------------------------------------------


@models.command("test", shape=TriedShape)
@click.argument("model", required=False)
@click.option(
    "--timeout-s",
    type=Number(0, min_open=True),
    default=30.0,
    metavar="SECONDS",
    show_default=True,
    help="How long.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before a call that may cost money.")
@asynchronous
async def test(call: Invocation, model: str | None, *, timeout_s: float, yes: bool, output: Format) -> None:
    """Send one tiny request: whether MODEL answers, how fast, and what it cost. Default: the default model."""
    from remanence.cli.opening import models_of

    configuration = call.configuration
    name = model or configuration.settings.model
    ready, configs = models_of(configuration)
    gateway = Gateway(configs, models=ready, root=configuration.root)
    try:
        gateway.resolve(name)
        if not yes and not name.startswith("scripted") and os.isatty(0):
            sure(f"One tiny call to {name}; it may cost a fraction of a cent. Send it?", otherwise="Nothing was sent")
        report = await try_model(gateway, name, timeout_s=timeout_s)
    finally:
        await gateway.aclose()
    shape = TriedShape(
        model=name,
        answered=report.answered,
        said=report.said,
        ms=round(report.seconds * 1000),
        input_tokens=report.usage.input_tokens,
        output_tokens=report.usage.output_tokens,
        usd_micros=report.cost_usd_micros,
        served_by=report.served_by,
        error=report.error,
    )
    show(shape, output, lambda: _print_tried(shape))
    leave(0 if shape.answered else 1)


def _print_tried(shape: TriedShape) -> None:
    if not shape.answered:
        note(f"{shape.model} did not answer ({shape.error}, after {shape.ms} ms): {clean(shape.said)}")
        return
    cost = "no price is known" if shape.usd_micros is None else usd(shape.usd_micros)
    say(f'{shape.model} answered in {shape.ms} ms: "{shortened(shape.said)}"')
    served_by = shape.served_by or shape.model
    say(f"{shape.input_tokens} tokens in, {shape.output_tokens} out, {cost}. Served by {served_by}.")
