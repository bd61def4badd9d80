"""A worker in a process of its own, which says a word again and again, piece by piece: until it is killed, or so often.

python telling.py URL WORD [TIMES]
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.content import Text, Usage
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.runtime.services import Times

TIMES = Times(lease_s=3.0, linger_s=0.1, poll_s=0.02)
PAUSE_S = 0.004


class Telling:
    """The model."""

    def __init__(self, word: str, times: int | None) -> None:
        self._word = word
        self._times = times

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        for _ in count() if self._times is None else range(self._times):
            if on_delta is not None:
                on_delta(0, "text", self._word)
            await asyncio.sleep(PAUSE_S)
        return ModelReply((Text(self._word * (self._times or 0)),), Usage(3, 5), stop="stop")

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


async def main(url: str, word: str, times: str = "") -> None:
    agents, models = [Agent("teller", model="telling")], {"telling": Telling(word, int(times) if times else None)}
    async with Remanence(url, agents=agents, models=models, options=Options(times=TIMES)):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
