"""The files that come with the console: its stylesheet and script, and three libraries with their licences.

They are read once, named by their content in every link (`?v=DIGEST`), and may be kept for ever under that name.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

__all__ = ["digest_of_files", "static_router"]

KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

static_router = APIRouter(include_in_schema=False)


@cache
def _files() -> dict[str, tuple[bytes, bytes, str]]:
    """Each file by its name: its content, the same compressed, and its media type."""
    found: dict[str, tuple[bytes, bytes, str]] = {}
    for file in files("remanence.console").joinpath("static").iterdir():
        kind = next((kind for end, kind in KINDS.items() if file.name.endswith(end)), "")
        if kind:
            content = file.read_bytes()
            found[file.name] = (content, gzip.compress(content, mtime=0), kind)
    return found


@cache
def digest_of_files() -> str:
    """What the files are, in twelve letters."""
    digest = hashlib.sha256()
    for name, (content, _, _) in sorted(_files().items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]


@static_router.get("/static/{name}")
async def static_file(request: Request, name: str) -> Response:
    """One file."""
    if name not in _files():
        raise HTTPException(404)
    content, compressed, kind = _files()[name]
    headers = {"vary": "accept-encoding", "cache-control": "no-cache"}
    if request.query_params.get("v") == digest_of_files():
        headers["cache-control"] = "public, max-age=31536000, immutable"
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            compressed, headers={**headers, "content-encoding": "gzip"}, media_type=f"{kind}; charset=utf-8"
        )
    return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")
