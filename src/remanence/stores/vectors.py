"""Vectors as they are stored, and how near they are: the same on every backend.

A vector is brought to length 1 when it is kept, so that a cosine is one sum of products. Every vector of the places in
view is compared: exact, and a few milliseconds for some thousand memories with numpy, some ten times that without it.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from operator import mul
from typing import Any

from remanence.core.memory.recall import Key, key_of
from remanence.errors import InvalidInput

__all__ = ["DIGITS", "cosines", "packed", "unit"]

DIGITS = 6
"""Cosines are rounded, so that two ways of adding up give the same hits."""

Row = tuple[int, int, bytes]
"""Place, document, vector."""


def packed(vector: Sequence[float], dimensions: int | None) -> bytes:
    """A vector of length 1, four bytes a dimension. Raises InvalidInput for one that cannot be compared."""
    return _little(array("f", unit(vector, dimensions))).tobytes()


def unit(vector: Sequence[float], dimensions: int | None = None) -> list[float]:
    """The same direction, of length 1. Raises InvalidInput for a vector that cannot be compared."""
    length = math.sqrt(sum(x * x for x in vector))
    if not math.isfinite(length) or length == 0.0 or (dimensions is not None and len(vector) != dimensions):
        raise InvalidInput(
            f"A vector of {len(vector)} numbers and length {length:g} was given; {dimensions or 'some'} numbers of a "
            "finite length are needed. Nothing of this was kept; see which model answers for the embeddings."
        )
    return [x / length for x in vector]


def cosines(asked: Sequence[float], rows: Sequence[Row]) -> dict[Key, float]:
    """How near each vector is to the question's, from -1 to 1; vectors of other dimensions are left out."""
    question = packed(asked, None)
    fitting = [row for row in rows if len(row[2]) == len(question)]
    near = _near(question, [vector for _, _, vector in fitting])
    return {key_of(row[0], row[1]): round(cosine, DIGITS) for row, cosine in zip(fitting, near, strict=True)}


def _near(question: bytes, vectors: Sequence[bytes]) -> Iterable[float]:
    if find_spec("numpy") is not None and vectors:
        numpy: Any = import_module("numpy")
        matrix = numpy.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
        return (matrix @ numpy.frombuffer(question, dtype="<f4")).tolist()
    asked = _floats(question)
    return (math.fsum(map(mul, asked, _floats(vector))) for vector in vectors)


def _floats(stored: bytes) -> array[float]:
    floats = array("f")
    floats.frombytes(stored)
    return _little(floats)


def _little(floats: array[float]) -> array[float]:
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
