"""Half a character (a lone surrogate), which Python holds and no UTF-8 can say: refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runtime.shop import Shop, runtime

from remanence.errors import InvalidInput


async def test_an_input_with_half_a_character_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path, None, shop.agent()) as rt:
        session = await rt.open("shop")
        with pytest.raises(InvalidInput, match="half a character") as caught:
            await session.submit("half \ud83d")
        assert "Nothing was written" in caught.value.message
        assert len(await session.history()) == 1
        assert await session.send("hello")
