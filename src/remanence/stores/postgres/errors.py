"""What PostgreSQL and its driver raise, said in our words.

`explain` turns any of their errors into one of `errors.py`; `is_lost` says whether the connection went away under a
statement, so that nobody knows yet whether a commit landed; `is_passing` whether the same transaction may simply be
run again. No message carries the URL: it may hold a password.
"""

from __future__ import annotations

import asyncpg

from remanence.errors import (
    InvalidConfig,
    InvalidInput,
    RemanenceError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)

__all__ = ["DRIVER_ERRORS", "explain", "is_damage", "is_lost", "is_passing"]

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Everything a call to the driver raises when the database, the network or the values are at fault."""

_KEPT = "What was acknowledged is kept."

# By class of SQLSTATE (its first two characters), or by the whole code where the class is too wide.
_LOST = ("08", "57P")
_PASSING = ("40",)
_DAMAGE = ("XX", "58")
_REFUSALS = ("28", "3D", "42501")


def sqlstate(error: BaseException) -> str:
    """The five-character code of a server's error; empty for the driver's own."""
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else ""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the answer to what was sent last."""
    if isinstance(error, asyncpg.DataError):
        return False
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return sqlstate(error).startswith(_LOST)


def is_damage(error: BaseException) -> bool:
    """Whether the server may have met a page, or a row, that is not what it wrote there."""
    return sqlstate(error).startswith(_DAMAGE)


def is_passing(error: BaseException) -> bool:
    """Whether the transaction was rolled back for a reason that passes at once: a deadlock."""
    return sqlstate(error).startswith(_PASSING)


def explain(error: BaseException, doing: str, *, at_work: bool = False) -> RemanenceError:
    """The error to raise instead of `error`, which happened while `doing` (a short phrase such as "appending").

    `at_work`: the database was open and worked. Then what it refuses to this user is not our settings' fault, and may
    pass: somebody changes a password, a privilege, or restores the database.
    """
    if isinstance(error, RemanenceError):
        return error
    code = sqlstate(error)
    if is_lost(error):
        return StoreUnavailable(
            f"PostgreSQL went away or did not answer while {doing} ({_said(error)}). {_KEPT} "
            "Remanence connects again by itself; try again."
        )
    if code == "53100":
        return StoreFull(
            f"PostgreSQL has no disk space left while {doing}. Nothing of this write was kept; {_KEPT.lower()} "
            "Free some space, then try again."
        )
    if code.startswith(("53", "40", "55P03", "57", "25006")):
        return StoreUnavailable(f"PostgreSQL could not take it now while {doing} ({_said(error)}). {_KEPT} Try again.")
    if at_work and code.startswith(_REFUSALS):
        return StoreUnavailable(
            f"PostgreSQL refuses it now while {doing} ({_said(error)}). {_KEPT} Look at the user and its privileges; "
            "it goes on when they are given back."
        )
    return _explain_request(error, code, doing)


def _explain_request(error: BaseException, code: str, doing: str) -> RemanenceError:
    if code in ("XX001", "XX002"):
        return StoreCorrupt(
            f"PostgreSQL found damaged data while {doing} ({_said(error)}). Nothing was changed; "
            "run `remanence sessions verify` to find the extent, and restore from a backup."
        )
    if code.startswith(_REFUSALS):
        return InvalidConfig(
            f"PostgreSQL refused ({_said(error)}). Nothing was written; check the user, the password, "
            "the database and its privileges in the database URL."
        )
    if code.startswith("54"):
        return TooLarge(f"PostgreSQL cannot hold this while {doing} ({_said(error)}). Nothing of it was written.")
    if isinstance(error, asyncpg.DataError) or code.startswith("22"):
        return InvalidInput(f"PostgreSQL cannot store this value ({_said(error)}). Nothing of it was written.")
    if code in ("42P01", "42703", "42883", "3F000"):
        return StoreError(
            f"The database does not have the schema this release expects ({_said(error)}). Nothing was changed; "
            "run `remanence db migrate`."
        )
    return StoreError(f"PostgreSQL reported an error while {doing} ({_said(error)}). {_KEPT}")


def _said(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__
