"""Who something is done for, as the vendors' formats say it: a text that names an account of budgets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["Who"]


def _storable(name: str) -> str:
    if "\x00" in name:
        raise PydanticCustomError("no_name", "it holds a NUL character, which no name can have; leave it out")
    return name


Who = Annotated[str, AfterValidator(_storable)]
"""A name that every database can hold."""
