"""What a model cannot do is refused when it is asked for: with a 400 and the path of the field, before anything is
written. What only the provider knows is a failed call instead, in the provider's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from remanence.api.named import Served
from remanence.content import Image, Message, Part, ToolResult
from remanence.errors import InvalidInput
from remanence.spec import ModelSettings, ToolSpec

__all__ = ["check_pictures", "check_settings"]


async def check_settings(
    served: Served, model: str, settings: ModelSettings, tools: Sequence[ToolSpec], paths: Mapping[str, str]
) -> None:
    """Raise InvalidInput when `model` is known not to do what `settings` ask.

    `paths` are where the fields of `ModelSettings` lie in the request; others lie where they are called.
    """
    found = await served.gateway.unfit(model, settings, tools)
    if found is not None:
        path = paths.get(found.setting, found.setting)
        raise InvalidInput(
            f"{path}: {found.why}. Nothing was written; leave it out, or name another model.", param=path
        )


async def check_pictures(served: Served, model: str, messages: Sequence[Message], given: Any, path: str) -> None:
    """Raise InvalidInput when messages ask `model` to look at a picture in a way it is known not to have.

    `given` is what they were read from, at `path` in the request.
    """
    if not any(_asks_detail(message.parts) for message in messages) or await served.gateway.takes_detail(model):
        return
    found = _detail_in(given, path) or path
    raise InvalidInput(
        f"{found}: {model} cannot be told how closely to look at a picture. Nothing was written; leave it out, or name "
        "another model.",
        param=found,
    )


def _asks_detail(parts: Sequence[Part]) -> bool:
    inner = [part for result in parts if isinstance(result, ToolResult) for part in result.parts]
    return any(isinstance(part, Image) and part.detail is not None for part in (*parts, *inner))


def _detail_in(given: Any, path: str) -> str | None:
    """Where a picture asks for more, or less, than its provider would do by itself."""
    if isinstance(given, list):
        places = enumerate(cast("list[Any]", given))
        return next((found for i, one in places if (found := _detail_in(one, f"{path}[{i}]"))), None)
    if isinstance(given, BaseModel):
        given = given.model_dump()
    if not isinstance(given, dict):
        return None
    known = cast("dict[str, Any]", given)
    if known.get("detail") not in (None, "auto"):
        return f"{path}.detail"
    return next((found for name, one in known.items() if (found := _detail_in(one, f"{path}.{name}"))), None)
