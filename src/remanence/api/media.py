"""What kind of file something is of which only the name was told: by its ending, the same on every machine."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

__all__ = ["media_type_of"]

_OFFICE = "application/vnd.openxmlformats-officedocument"
_ENDINGS = {
    ".csv": "text/csv",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".htm": "text/html",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".txt": "text/plain",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".xml": "application/xml",
}
_UNTOLD = "application/pdf"
"""What nearly every file is that is sent to a model without a word of its kind."""


def media_type_of(name: str | None, url: str = "") -> str:
    """The media type of a file of this name, or at this address."""
    try:
        path = name or urlsplit(url).path
    except ValueError:
        path = url
    return _ENDINGS.get(PurePosixPath(path).suffix.lower(), _UNTOLD)
