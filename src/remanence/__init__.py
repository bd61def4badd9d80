"""Remanence: what stays when the field is gone. A runtime for AI agents whose sessions survive.

The three names an application needs are loaded on first use, so that `import remanence` stays light: no web framework,
no database driver and no model library is imported before something asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remanence.agent import Agent
    from remanence.app import Remanence
    from remanence.tools import tool

__version__ = "0.1.0"
__all__ = ["Agent", "Remanence", "__version__", "tool"]

_HOMES = {"Agent": "remanence.agent", "Remanence": "remanence.app", "tool": "remanence.tools"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'remanence' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
