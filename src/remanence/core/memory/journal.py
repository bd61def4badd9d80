"""The journal of a memory store: where what *people* write, edit and withdraw is a fact.

What an agent notes stands in the journal of its session. A person edits outside any session, so each store has a
journal of its own: a session that nobody drives. It lies in a tenant beside the project, so that no list, no search and
no face of the project's sessions shows it, and belongs to the project all the same.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from remanence.spec import AgentSpec

__all__ = ["STORE_AGENT", "journal_of", "owner_of", "tenant_of"]

_BESIDE: Final = "#memory"

STORE_AGENT: Final = AgentSpec("memory-store", "any", "Keeps what people write into a memory store.")


def journal_of(project: str, store: str) -> str:
    """The id of the session that is a store's journal."""
    return f"memory_{sha256(f'{project}/{store}'.encode()).hexdigest()[:32]}"


def tenant_of(project: str) -> str:
    """The tenant in which the journals of a project's stores lie."""
    return f"{project}{_BESIDE}"


def owner_of(tenant: str) -> str:
    """The project that the sessions of a tenant belong to: itself, but for the journals of memory stores."""
    return tenant.removesuffix(_BESIDE)
