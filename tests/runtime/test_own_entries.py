"""An entry of another project is answered as one that is not there, to the word: nobody learns which it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from remanence import Remanence
from remanence.commands.caller import Caller
from remanence.commands.entries import own_entry
from remanence.commands.kept_views import keep_view, list_views, remove_view
from remanence.commands.keys import KIND as KEYS
from remanence.commands.keys import create_key, revoke_key
from remanence.errors import NotFound

Verb = Callable[[Caller, str], Awaitable[object]]


async def refusal(verb: Verb, caller: Caller, name: str) -> tuple[str, str | None]:
    """What is said instead, with the name taken out, and the word for it."""
    with pytest.raises(NotFound) as caught:
        await verb(caller, name)
    return caught.value.message.replace(name, "NAME"), caught.value.reason


async def test_what_is_another_projects_is_not_there(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path / 'a.db'}", worker=False) as rt:
        stranger = replace(rt.caller, project="other")
        view = await keep_view(rt.caller, "Late ones", "status=waiting")
        key, _ = await create_key(rt.caller, "till")
        for verb, name in ((remove_view, view.id), (revoke_key, key.id)):
            assert await refusal(verb, stranger, name) == await refusal(verb, stranger, "0" * len(name))
        assert await own_entry(stranger, KEYS, key.id) is None
        assert await own_entry(rt.caller, KEYS, key.id) is not None
        assert [one.id for one in await list_views(rt.caller)] == [view.id]
