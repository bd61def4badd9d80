"""The reference is written from the code, says what the code says, and leaves nothing out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args, get_origin

import click
import msgspec
import pytest

from remanence import errors
from remanence.cli.command import Command, Invocation
from remanence.cli.root import remanence
from remanence.events import KINDS
from remanence.settings import settings_known

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "docs_reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below this one, with the words that reach it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command, obj=Invocation())
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None, name
        yield from commands(found, (*path, name))


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "errors.md", "events.md", "compatibility.md"])
def test_the_pages_are_what_the_code_says(reference: ModuleType, name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run: make docs-reference"


def test_every_setting_event_error_and_command_is_there(reference: ModuleType) -> None:
    def text(name: str) -> str:
        return (reference.FOLDER / name).read_text(encoding="utf-8")

    assert all(f"| `{setting.name}` |" in text("settings.md") for setting in settings_known())
    assert all(f"\n## {kind}\n" in text("events.md") for kind in KINDS)
    assert all(f"| `{kind.__name__}` |" in text("errors.md") for kind in everything_below(errors.RemanenceError))
    for path, _ in commands(remanence):
        assert f" remanence {' '.join(path)}\n" in text("commands.md")


def everything_below(kind: type[errors.RemanenceError]) -> Iterator[type[errors.RemanenceError]]:
    if kind.__module__ == errors.__name__:
        yield kind
    for below in kind.__subclasses__():
        yield from everything_below(below)


def test_the_tree_in_the_head_of_the_errors_is_the_tree(reference: ModuleType) -> None:
    drawn = errors.__doc__ or ""
    for kind in reference.errors_known():
        if kind.__name__ not in ("ToolError", "EffectInDoubt"):
            line = next(line for line in drawn.splitlines() if f" {kind.__name__} " in f" {line}")
            assert f"exit {kind.exit_code}" in line or kind is errors.RemanenceError, kind
            assert str(kind.status) in line or kind is errors.RemanenceError, kind


def test_what_nobody_described_fails(reference: ModuleType) -> None:
    for description in (None, "", "  "):
        with pytest.raises(reference.Undocumented):
            reference.said(description, "it")


def test_every_option_has_its_help_and_every_shape_its_words() -> None:
    for path, command in commands(remanence):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)
        shape = command.shape if isinstance(command, Command) else None
        if shape is not None:
            struct = get_args(shape)[0] if get_origin(shape) is list else shape
            assert issubclass(struct, msgspec.Struct), path
            assert struct.__doc__, path


def test_what_prints_data_prints_it_as_json() -> None:
    silent = {path for path, command in commands(remanence) if isinstance(command, Command) and command.shape is None}
    assert silent <= {
        ("attach",),
        ("chat",),
        ("completion",),
        ("demo",),
        ("dev",),
        ("init",),
        ("metrics",),  # a format of its own, for programs
        ("serve",),
        ("worker",),
    }
