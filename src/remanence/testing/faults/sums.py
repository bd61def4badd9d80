"""Figures of fault runs: what was counted, what of it has to be 0, and the sums over many runs."""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec

__all__ = ["Sums"]


class Sums(msgspec.Struct):
    """Sums over runs. All but those of `KEPT` have to be 0."""

    KEPT: ClassVar[tuple[str, ...]] = ("runs", "kills")
    """The figures that may be anything."""

    runs: int = 0
    kills: int = 0
    stories: list[str] = []
    """What happened, in words, where a figure is not what it should be."""

    def add(self, other: Self) -> None:
        """What another run came to, its stories too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def counts(self) -> dict[str, int]:
        """The figures by name, without the stories."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if isinstance(value, int)}

    @property
    def failures(self) -> int:
        """The sum of what has to be 0."""
        return sum(count for name, count in self.counts.items() if name not in self.KEPT)
