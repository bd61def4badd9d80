"""Embeddings by a model on this machine: a folder, or an installed package that carries one.

The model is one that the library `sentence-transformers` loads (the extra `embedder` installs it; it brings torch). It
is loaded with the first texts, in a thread of its own, and nothing is fetched: what is not in the folder is an error.
Nothing of the package itself is run; only its files are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from remanence.errors import InvalidConfig, ModelError

__all__ = ["LOCAL", "Encode", "LocalEmbeddings"]

LOCAL = "local:"
"""What the setting begins with."""
LIBRARY = "sentence_transformers"
LISTS_ITS_PARTS = "modules.json"
"""The file by which the folder of a model is known."""
BATCH = 32

Encode = Callable[[Sequence[str]], Sequence[Sequence[float]]]


class LocalEmbeddings:
    """An `ports.Embedder`. `load` makes what embeds out of a folder; it and what it makes run in one thread."""

    def __init__(self, name: str, *, load: Callable[[Path], Encode] | None = None) -> None:
        """Raises InvalidConfig for a name behind which there is no model, or when the library is not installed."""
        self._name = name
        self._folder = _folder(name)
        if load is None and find_spec(LIBRARY) is None:
            raise InvalidConfig(
                f"Embeddings by the local model {name!r} need the package `sentence-transformers`. Nothing was "
                "started: install `remanence[embedder]`, or leave `memory.embeddings` empty and have words alone.",
                param="memory.embeddings",
            )
        self._load = load or _load
        self._encode: Encode | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="remanence-embeddings")

    @property
    def model(self) -> str:
        return LOCAL + self._name

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text, in their order. Raises ModelError."""
        if not texts:
            return []
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts))

    def _embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        try:
            if self._encode is None:
                self._encode = self._load(self._folder)
            return self._encode(texts)
        except Exception as error:  # whatever a library of that size may raise: the words must still answer
            raise ModelError(
                f"The local model of embeddings {self._name!r} failed ({type(error).__name__}: {error}). Nothing is "
                "lost: memories are found by their words meanwhile. See that its folder is whole.",
                kind="server",
            ) from error

    async def close(self) -> None:
        """Let go of the model; what is being embedded is waited for."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._encode = None


def _folder(name: str) -> Path:
    """The folder of a model: the path itself, or the one within an installed package."""
    candidates = [Path(name)]
    if name.isidentifier():
        spec = find_spec(name)
        candidates += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    for folder in candidates:
        for file in (folder / LISTS_ITS_PARTS, *sorted(folder.glob(f"*/{LISTS_ITS_PARTS}"))):
            if file.is_file():
                return file.parent.absolute()
    raise InvalidConfig(
        f"`memory.embeddings` names {name!r}, which is no folder and no installed package with a model in it (a file "
        f"{LISTS_ITS_PARTS} tells). Nothing was started: correct the name, or install the package.",
        param="memory.embeddings",
    )


def _load(folder: Path) -> Encode:
    library: Any = import_module(LIBRARY)
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return model.encode(list(texts), batch_size=BATCH, show_progress_bar=False).tolist()

    return encode
