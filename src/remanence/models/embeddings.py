"""Embeddings of any server that speaks the OpenAI format: `POST {base_url}/embeddings`.

Ollama, llama.cpp, vLLM, text-embeddings-inference and most providers do. One attempt for each call: whoever asks knows
whether to ask again. Import this module lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import httpx2
import msgspec

from remanence.errors import ModelError, ModelErrorKind
from remanence.models.clients import is_loopback, open_http

__all__ = ["Embeddings"]

SHOWN_CHARACTERS = 200


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


class Embeddings:
    """An `ports.Embedder`. `key` goes to this server only; proxies of the environment are not used for this machine."""

    def __init__(self, base_url: str, model: str, *, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = open_http(trust_env=not is_loopback(base_url))

    @property
    def model(self) -> str:
        return self._model

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text, in their order. Raises ModelError."""
        if not texts:
            return []
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        try:
            answer = await self._http.post(self._url, json=body, headers=self._headers, timeout=self._timeout_s)
        except httpx2.HTTPError as error:
            late = isinstance(error, httpx2.TimeoutException)
            words = "did not answer in time" if late else "did not answer: it is not there, or the connection broke"
            raise self._failed(words, "connection") from error
        if answer.status_code != 200:
            raise self._failed(f"answered {answer.status_code}: {answer.text[:SHOWN_CHARACTERS]}")
        try:
            rows = sorted(msgspec.json.decode(answer.content, type=_Answer).data, key=lambda row: row.index)
        except msgspec.MsgspecError as error:
            raise self._failed(f"answered in another format ({error})") from error
        if [row.index for row in rows] != list(range(len(texts))):
            raise self._failed(f"answered with {len(rows)} vectors for {len(texts)} texts")
        return [row.embedding for row in rows]

    def _failed(self, what: str, kind: ModelErrorKind = "server") -> ModelError:
        return ModelError(
            f"The embeddings of {self._model!r} at {self._url} failed: it {what}. Nothing is lost: memories are found "
            "by their words meanwhile. See that the server runs and serves this model.",
            kind=kind,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Embeddings:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
