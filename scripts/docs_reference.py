"""Write the pages of docs/reference from the code: settings, commands, errors, events, compatibility.

    python scripts/docs_reference.py            write them
    python scripts/docs_reference.py --check    exit 1 when a page is not what the code says

What has no description fails: a setting, an option, a command, an error or an event nobody explained is not finished.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import click
import msgspec

from remanence import errors
from remanence.api import compatibility
from remanence.cli.command import Command, Invocation
from remanence.cli.root import COMMANDS, INTERRUPTED, remanence
from remanence.content import Message, Part, Usage
from remanence.events import KINDS, Recorded
from remanence.settings import OTHER_VARIABLES, Setting, settings_known

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
WRITTEN = "<!-- Written by scripts/docs_reference.py (make docs-reference). Change the code, not this page. -->"


class Undocumented(Exception):
    """Something that readers will meet is not explained."""


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale: list[str] = []
    for name, make in PAGES.items():
        text = make()
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'Not what the code says' if check else 'Written'}: {', '.join(stale)}")
    return 1 if check and stale else 0


def page(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"# {title}", WRITTEN, *paragraphs]) + "\n"


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(cell_text, line))} |" for line in lines)


def cell_text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def said(text: str | None, what: str) -> str:
    """The text on one line; it must be there."""
    if text is None or not text.strip():
        raise Undocumented(f"{what} has no description")
    return " ".join(text.split())


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    known = settings_known()
    rows = [_setting_row(setting) for setting in known]
    others = [(f"`{name}`", said(text, name)) for name, text in OTHER_VARIABLES.items()]
    return page(
        "Settings",
        "A setting stands in `remanence.toml` (in the working directory or a folder above it, or the file of "
        "`--config`), in an environment variable, or is an option. A variable wins over the file, an option over both. "
        "A setting with a point in its name stands in a table: `worker.lease_s` is `lease_s` under `[worker]`. "
        "Relative paths in the file start where the file lies; a relative database in a variable or an option starts "
        "in the working directory. A name that is not known is an error.",
        grid(("setting", "variable", "type", "default", "what it is"), rows),
        "## Models under names of your own",
        "Each table `[models.NAME]` describes one model; `remanence models add` writes one. Give `provider`, "
        "`base_url` or both.",
        f"```toml\n{_models_example()}\n```",
        "## Other variables",
        grid(("variable", "what it is"), others),
        "Keys of providers are read from their own variables, such as `ANTHROPIC_API_KEY`; `remanence models list` "
        "shows which are set.",
    )


def _setting_row(setting: Setting) -> tuple[str, str, str, str, str]:
    variable = f"`{setting.variable}`" if setting.variable else "-"
    return (
        f"`{setting.name}`",
        variable,
        type_words(setting.type),
        default_words(setting.default),
        said(setting.description, f"the setting {setting.name}"),
    )


def _models_example() -> str:
    """The example at the head of the module that reads these tables."""
    from remanence.models import configuration

    lines = (configuration.__doc__ or "").split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("    ["))
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    return "\n".join(line[4:] for line in lines[start:end])


def type_words(kind: Any) -> str:
    """A type in words: `number, at least 0`."""
    limits = ""
    while get_origin(kind) is not None and hasattr(kind, "__metadata__"):
        kind, *notes = get_args(kind)
        limits += "".join(_limit_words(note) for note in notes if isinstance(note, msgspec.Meta))
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    names: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
    if get_origin(kind) is tuple:
        return f"list of {names.get(get_args(kind)[0], '?')}"
    return "tables" if get_origin(kind) is dict else names.get(kind, str(kind)) + limits


def _limit_words(note: msgspec.Meta) -> str:
    words = ""
    for name, word in (("ge", "at least"), ("gt", "over"), ("le", "at most"), ("lt", "under")):
        value = getattr(note, name)
        if value is not None:
            words += f", {word} {value}"
    return words


def default_words(value: Any) -> str:
    if value in ((), {}, ""):
        return "-"
    return f"`{json.dumps(value) if isinstance(value, bool | int | float) else value}`"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    context = remanence.make_context("remanence", [], resilient_parsing=True, obj=Invocation())
    parts: list[str] = []
    for section, entries in COMMANDS.items():
        parts.append(f"## {section}")
        for name, entry in entries.items():
            command = remanence.get_command(context, name)
            if command is None or command.get_short_help_str(200) != entry.help:
                raise Undocumented(f"the table of commands says something else about {name} than the command itself")
            parts += _command_parts(command, context, name)
    return page("Commands", *_conventions(context), *parts)


def _conventions(context: click.Context) -> list[str]:
    codes = [
        ("0", "done"),
        ("1", "failed: the turn, the check, the database"),
        ("2", "usage: an option, a setting, a declaration is wrong"),
        ("3", "not found"),
        ("4", "conflict: it is there already, somebody else was first, or a freeze stands"),
        ("5", "waiting for a person; stderr gives the command that answers"),
        (str(INTERRUPTED), "interrupted by Ctrl-C before there was an answer"),
    ]
    shared = [
        p for p in remanence.get_params(context) if isinstance(p, click.Option) and p.name not in ("help", "version")
    ]
    return [
        "A noun, then a verb: `remanence sessions list`. What a command answers goes to stdout, what it remarks to "
        "stderr. No command prints a traceback unless it is asked to (`--debug`). Colours appear only on a terminal, "
        "and never when `NO_COLOR` is set. `remanence completion SHELL` prints a completion script.",
        "Where a session's ID is asked for, `last` stands for the session that changed last.",
        "## Exit codes",
        grid(("code", "meaning"), codes),
        "## Options of every command",
        "They may stand before or after the noun and the verb.",
        grid(("option", "what it does"), [_option_row(option, context) for option in shared]),
        "## JSON",
        "A command that answers with data takes `-o table`, `-o json` or `-o jsonl` (a list: one entry a line). JSON "
        "is UTF-8 and stable: fields are only ever added. Times (`at`, `..._at`) are whole microseconds since "
        "1970-01-01 UTC or null, money is `usd_micros`, millionths of a US dollar, digests are hexadecimal.",
    ]


def _command_parts(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, parent=parent, info_name=name)
    path = context.command_path
    yield f"### {path}" if parent.parent is None else f"#### {path}"
    yield _help_text(command, path)
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            if found is not None:
                yield from _command_parts(found, context, verb)
        return
    yield f"```\n{' '.join(_usage(command, context))}\n```"
    shared = {option.name for option in remanence.get_params(parent)}
    own = [p for p in command.params if isinstance(p, click.Option) and p.name not in shared - {"model"}]
    if own:
        yield grid(("option", "what it does"), [_option_row(option, context) for option in own])
    if isinstance(command, Command) and command.shape is not None:
        yield _shape_text(command.shape)


def _help_text(command: click.Command, path: str) -> str:
    """The help as paragraphs; a block marked by backspace keeps its lines."""
    if not command.help:
        raise Undocumented(f"{path} has no help")
    blocks: list[str] = []
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        if paragraph.startswith("\b"):
            blocks.append("```\n" + paragraph.removeprefix("\b\n") + "\n```")
        else:
            blocks.append(" ".join(paragraph.split()))
    return "\n\n".join(blocks)


def _usage(command: click.Command, context: click.Context) -> Iterator[str]:
    yield context.command_path
    yield "[OPTIONS]"
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield parameter.make_metavar(context)


def _option_row(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    names = record[0] if record else option.opts[0]
    return f"`{names}`", said(record[1] if record else "", f"{context.command_path} {names}")


def _shape_text(shape: Any) -> str:
    many = get_origin(shape) is list
    struct = cast("type[msgspec.Struct]", get_args(shape)[0] if many else shape)
    _, components = msgspec.json.schema_components((struct,))
    own = components[struct.__name__]
    rows = [(f"`{name}`", _schema_words(field, components)) for name, field in own["properties"].items()]
    what = said(own.get("description"), f"the JSON of {struct.__name__}")
    begin = "JSON: a list of objects." if many else "JSON: one object."
    return f"{begin} {what}\n\n{grid(('field', 'type'), rows)}"


def _schema_words(field: dict[str, Any], components: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_schema_words(one, components) for one in field["anyOf"])
    if "$ref" in field:
        inner = components[field["$ref"].rsplit("/", 1)[1]]
        if "properties" not in inner:
            return _schema_words(inner, components)
        return "object: " + ", ".join(f"`{name}`" for name in inner["properties"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_schema_words(field.get('items', {}), components)}"
    kind: str = field.get("type", "anything")
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(kind, kind)


# --- errors -----------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    tree = (errors.__doc__ or "").split("\n\n", 1)[1].rstrip()
    rows = [_error_row(kind) for kind in errors_known()]
    return page(
        "Errors",
        "Everything Remanence raises on purpose is a `RemanenceError` (`remanence.errors`). Its message says what "
        "happened, what was kept, and what to do next. `code` is stable and machine-readable; `param` is the path of "
        "the field that is wrong, when there is one.",
        f"```\n{tree}\n```",
        grid(("error", "is a", "`code`", "HTTP", "exit", "what happened"), rows),
    )


def errors_known() -> list[type[errors.RemanenceError]]:
    """Every error of the tree, in the order of the module."""
    found = [getattr(errors, name) for name in errors.__all__]
    kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, errors.RemanenceError)]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])


def _error_row(kind: type[errors.RemanenceError]) -> tuple[str, ...]:
    parent = kind.__mro__[1].__name__
    what = said(kind.__doc__ if "__doc__" in vars(kind) else "", kind.__name__)
    return f"`{kind.__name__}`", f"`{parent}`", f"`{kind.code}`", str(kind.status), str(kind.exit_code), what


# --- events -----------------------------------------------------------------------------------------------------------


def events_page() -> str:
    from remanence.events import kinds

    head, story, pairs = (kinds.__doc__ or "").split("\n\n", 2)
    _, components = msgspec.json.schema_components(
        (*KINDS.values(), Recorded, Message, Usage, Part), ref_template="#/$defs/{name}"
    )
    parts = [f"## {name}\n\n{_event_text(components[name])}" for name in KINDS]
    shared = [name for name in components if name not in KINDS and name not in ("Recorded", "Message")]
    return page(
        "Events",
        said(head, "the vocabulary of events"),
        said(story, "what the events have in common"),
        f"```\n{inspect.cleandoc(pairs)}\n```",
        "Fields that are at their default are not written. Digests are hexadecimal; `at`, `due_at`, `retry_at` and "
        "`expires_at` are microseconds since 1970-01-01 UTC. A kind that a release does not know stops it before it "
        "changes anything; a shape that an older release wrote is read for ever.",
        "Around each event lies its record:",
        _fields_grid(components["Recorded"]),
        *parts,
        "# Parts",
        "What models, people and tools say is a list of parts. The events refer to these schemas as `#/$defs/NAME`.",
        *[f"## {name}\n\n{_event_text(components[name])}" for name in shared],
    )


def _event_text(schema: dict[str, Any]) -> str:
    what = said(schema.get("description"), schema.get("title", "a schema"))
    bare = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return f"{what}\n\n```json\n{schema_text(bare)}\n```"


def schema_text(schema: dict[str, Any]) -> str:
    """A JSON Schema with each property on a line of its own."""
    properties = cast("dict[str, Any]", schema.get("properties", {}))
    lines = [f"    {json.dumps(name)}: {json.dumps(_plain(field))}" for name, field in properties.items()]
    rest = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in schema.items() if key != "properties"]
    return "{\n" + ",\n".join([*rest, '  "properties": {\n' + ",\n".join(lines) + "\n  }"]) + "\n}"


def _plain(field: Any) -> Any:
    """Without OpenAPI's discriminators, which repeat what the alternatives say."""
    if isinstance(field, dict):
        pairs = cast("dict[str, Any]", field).items()
        return {key: _plain(value) for key, value in pairs if key != "discriminator"}
    return [_plain(item) for item in cast("list[Any]", field)] if isinstance(field, list) else field


def _fields_grid(schema: dict[str, Any]) -> str:
    rows = [(f"`{name}`", _record_words(name, field)) for name, field in schema["properties"].items()]
    return f"{said(schema.get('description'), 'the record')}\n\n{grid(('field', 'type'), rows)}"


def _record_words(name: str, field: dict[str, Any]) -> str:
    if name == "event":
        return "one of the events below"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}[field["type"]]


# --- compatibility ----------------------------------------------------------------------------------------------------


def compatibility_page() -> str:
    parts = [f"## {part}\n\n{_operations_grid(part, rows)}" for part, rows in compatibility.OPERATIONS.items()]
    parameters = [f"### {name}\n\n{_parameters_grid(name, rows)}" for name, rows in compatibility.PARAMETERS.items()]
    headers = [
        (f"`{one.name}`", said(one.what, one.name), ", ".join(f"`{name}`" for name in one.read_by))
        for one in compatibility.HEADERS
    ]
    return page(
        "Compatibility",
        "What the official package finds here under `/v1`, and the same under `/openai/v1`. Its asynchronous client "
        "has the same operations, and `beta.chat` is `chat`. What cannot be honoured is refused, with the path of the "
        "field. How to use it: [the OpenAI client](../how-to/use-the-openai-client.md).",
        "`full`: it does what its documentation says, as far as a server of one's own can. `partial`: it works, but "
        "for what stands beside it. `not yet`: there is no such route, or it answers with an error that says so.",
        *parts,
        "## Parameters",
        "Operations that are not here take all of theirs, or what the tables above say.",
        *parameters,
        "## Headers",
        grid(("header", "what it does", "read by"), headers),
        "## Errors",
        "The object of an error, its status, `type`, `code` and `param` are the vendor's: `model_not_found` (400 from "
        "Responses, 404 elsewhere), `previous_response_not_found`, `context_length_exceeded`, `unknown_parameter`, "
        "`missing_required_parameter`, `invalid_type`, `invalid_value`, `invalid_api_key`, `rate_limit_exceeded`. "
        "Others differ:",
        grid(("when", "here", "the vendor"), [(one.when, one.here, one.there) for one in compatibility.REFUSALS]),
        "## Resources that are not served",
        "There are no routes for " + ", ".join(f"`{name}`" for name in compatibility.NOT_SERVED) + ".",
    )


def _operations_grid(part: str, rows: Sequence[compatibility.Operation]) -> str:
    lines = [(f"`{one.name}`", f"`{one.route}`" if one.route else "-", one.state, _missing(one, part)) for one in rows]
    return grid(("operation", "route under `/v1`", "state", "what is missing"), lines)


def _parameters_grid(operation: str, rows: Sequence[compatibility.Parameter]) -> str:
    return grid(
        ("parameter", "state", "what is missing"),
        [(f"`{one.name}`", one.state, _missing(one, operation)) for one in rows],
    )


def _missing(one: compatibility.Operation | compatibility.Parameter, where: str) -> str:
    """What is missing; nobody may be told `partial` without it."""
    if one.state == "partial":
        return said(one.missing, f"what is missing of {one.name} ({where})")
    return one.missing or "-"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
    "events.md": events_page,
    "compatibility.md": compatibility_page,
}

if __name__ == "__main__":
    sys.exit(main())
