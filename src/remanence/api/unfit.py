"""What a model cannot do is refused when it is asked for: with a 400 and the path of the field, before anything is
written. What only the provider knows is a failed call instead, in the provider's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remanence.api.named import Served
from remanence.errors import InvalidInput
from remanence.spec import ModelSettings, ToolSpec

__all__ = ["check_settings"]


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
