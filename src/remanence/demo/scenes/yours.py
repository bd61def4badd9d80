"""Scene 8: now with your model. The exact line for each key or local server that is there, and for none."""

from __future__ import annotations

import os
from collections.abc import Sequence

from remanence.demo.theatre import Theatre
from remanence.models.detect import Detected, detect
from remanence.models.providers import PROVIDERS

__all__ = ["lines", "play"]

LOCAL = "ollama pull qwen3:8b && remanence demo --fast"
FIRST_CHOICES = ("anthropic", "openai")


async def play(t: Theatre) -> None:
    await t.stage.scene(8, "Now with your model")
    for sentence, commands in lines(await detect(t.configs, os.environ)):
        await t.stage.say(sentence)
        for command in commands:
            await t.stage.command(command)


def lines(found: Sequence[Detected]) -> list[tuple[str, list[str]]]:
    """For each way to a model a sentence and what to run; when there is none, how to make one."""
    ways = [way for way in found if way.source != "scripted"]
    if ways:
        return [(f"Found {way.label}{f' ({way.note})' if way.note else ''}:", [command(way)]) for way in ways]
    keys = [f"{PROVIDERS[name].keys[0]}=... remanence demo --model {with_start(name)}" for name in FIRST_CHOICES]
    return [
        ("No key and no local server was found. With a key, and some cents of yours:", keys),
        ("Or with a server on this machine; the tour finds it and ends with the line for it:", [LOCAL]),
    ]


def with_start(name: str) -> str:
    return f"{name}:{PROVIDERS[name].start}"


def command(way: Detected) -> str:
    """The line that takes this tour on that model."""
    if way.config is None:
        return f"remanence demo --model {way.model or 'NAME'}"
    return f"REMANENCE_UPSTREAM_URL={way.config.base_url} remanence demo --model {way.config.model}"
