"""Runs of the OpenAI Agents SDK, as a whole or as a stream."""

from __future__ import annotations

from typing import Any

import agents as sdk

__all__ = ["QUIET", "ran"]

QUIET = sdk.RunConfig(tracing_disabled=True)


async def ran(agent: Any, given: Any, *, streamed: bool, **options: Any) -> Any:
    """What a run came to, once it has ended or stopped."""
    if not streamed:
        return await sdk.Runner.run(agent, given, run_config=QUIET, **options)
    result = sdk.Runner.run_streamed(agent, given, run_config=QUIET, **options)
    async for _ in result.stream_events():
        pass
    return result
