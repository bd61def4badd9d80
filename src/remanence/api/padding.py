"""Padding for events that carry a piece of text, so that the length of what travels does not tell the length of a word.

Whoever sees an encrypted stream go by sees sizes. With padding every piece fills blocks of `BLOCK` characters.
"""

from __future__ import annotations

import secrets

__all__ = ["BLOCK", "padding"]

BLOCK = 32


def padding(text: str) -> str:
    """Random characters that fill up the last block of a text, at least one."""
    return secrets.token_hex(BLOCK)[: BLOCK - len(text) % BLOCK]
