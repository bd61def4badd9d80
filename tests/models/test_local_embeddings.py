"""A model of embeddings on this machine: how it is found, that it works apart, what is said when it fails."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from remanence.cli.opening import embedder_of
from remanence.errors import InvalidConfig, ModelError
from remanence.models.local_embeddings import Encode, LocalEmbeddings
from remanence.settings import MemorySettings, Settings


def model_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    return folder


async def test_a_model_is_loaded_once_and_works_in_a_thread_of_its_own(tmp_path: Path) -> None:
    loaded: list[Path] = []
    threads: set[int] = set()

    def load(folder: Path) -> Encode:
        loaded.append(folder)

        def encode(texts: Sequence[str]) -> Sequence[Sequence[float]]:
            threads.add(threading.get_ident())
            return [[float(len(text)), 1.0] for text in texts]

        return encode

    name = str(model_in(tmp_path / "small"))
    embedder = LocalEmbeddings(name, load=load)
    assert loaded == []
    assert await embedder.embed([]) == []
    assert await embedder.embed(["one", "three"]) == [[3.0, 1.0], [5.0, 1.0]]
    assert await embedder.embed(["two"]) == [[3.0, 1.0]]
    assert embedder.model == f"local:{name}"
    assert loaded == [Path(name)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    await embedder.close()


async def test_a_model_within_an_installed_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "a_packaged_model").mkdir()
    (tmp_path / "a_packaged_model" / "__init__.py").write_text("raise RuntimeError('was run')", encoding="utf-8")
    folder = model_in(tmp_path / "a_packaged_model" / "model")
    sys.path.insert(0, str(tmp_path))
    try:
        embedder = LocalEmbeddings("a_packaged_model", load=lambda found: lambda texts: [[1.0]] * (found == folder))
    finally:
        sys.path.remove(str(tmp_path))
    assert await embedder.embed(["x"]) == [[1.0]]
    await embedder.close()


async def test_a_model_that_fails_says_what_is_left(tmp_path: Path) -> None:
    def load(folder: Path) -> Encode:
        raise OSError(f"{folder.name} is torn")

    embedder = LocalEmbeddings(str(model_in(tmp_path / "small")), load=load)
    with pytest.raises(ModelError, match=r"small is torn.*by their words"):
        await embedder.embed(["x"])
    await embedder.close()


def test_a_name_without_a_model_behind_it_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path), "no_such_package", "json"):
        with pytest.raises(InvalidConfig, match=r"modules\.json"):
            LocalEmbeddings(name)


def test_settings_name_a_local_model(tmp_path: Path) -> None:
    name = f"local:{model_in(tmp_path / 'small')}"
    if find_spec("sentence_transformers") is None:
        with pytest.raises(InvalidConfig, match=r"remanence\[embedder\]"):
            embedder_of(Settings(memory=MemorySettings(embeddings=name)))
    with pytest.raises(InvalidConfig, match="local:"):
        embedder_of(Settings(memory=MemorySettings(embeddings="remote:x")))
    both = MemorySettings(embeddings=name, embeddings_url="http://127.0.0.1:1/v1", embeddings_model="m")
    with pytest.raises(InvalidConfig, match="one of them"):
        embedder_of(Settings(memory=both))
    assert embedder_of(Settings()) is None
