"""What the store says when it refuses: the same words from every backend.

Each builds an error that says what happened, what was kept and what to do next; none raises it.
"""

from __future__ import annotations

from remanence.core.freezes import plain_scope
from remanence.errors import Conflict, Fenced, InvalidInput, NotFound, StoreCorrupt, StoreUnavailable, plain_words
from remanence.ports import Fork, Lease

__all__ = [
    "OLDER_LOOK_S",
    "OLDER_S_MAX",
    "bad_fork",
    "bad_redaction",
    "bad_scope",
    "blob_damaged",
    "content_changed",
    "content_missing",
    "entry_changed",
    "fenced",
    "no_blob",
    "no_budget",
    "no_entry",
    "no_hold",
    "no_memory",
    "no_session",
    "no_version",
    "records_missing",
    "redacted_meanwhile",
    "released_unseen",
    "session_exists",
    "still_seen",
    "unfit_event",
    "unfit_text",
    "unselective",
]

OLDER_S_MAX, OLDER_LOOK_S = 30.0, 0.05
"""How long whoever could still see what was deleted is waited for before the files are written anew, and how often one
looks."""


def fenced(lease: Lease, epoch: int, worker: str | None) -> Fenced:
    """To a worker that lost its lease; `epoch` and `worker` are those of the last one given."""
    holder = "nobody" if worker is None else repr(worker)
    return Fenced(
        f"Worker {lease.worker!r} no longer has session {lease.session!r}: its lease was number {lease.epoch}, the "
        f"last one given is number {epoch}, held by {holder}. Nothing of this write was kept; drop the session."
    )


def released_unseen(session: str, seen: int, head: int) -> Conflict:
    """To a worker that gives a session back without having seen its newest records."""
    return Conflict(
        f"Session {session!r} is at position {head}, and its worker has seen {seen}: somebody spoke meanwhile. The "
        "lease was kept; read what is new and go on."
    )


def no_session(session: str) -> NotFound:
    return NotFound(f"There is no session {session!r}. `remanence sessions list` shows those there are.").because(
        "no_session", session=session
    )


def session_exists(session: str) -> Conflict:
    return Conflict(f"There is a session {session!r} already; it was left as it is. Choose another id, or write to it.")


def no_blob(digest: str) -> NotFound:
    return NotFound(f"There is no blob {digest!r}. It was never stored here, or what it belonged to was erased.")


def no_entry(kind: str, id_: str) -> NotFound:
    return NotFound(f"There is no {kind} {id_!r}. It was never made here, or it was removed.").because("no_entry")


def entry_changed(kind: str, id_: str, expect: int, revision: int) -> Conflict:
    if not expect:
        return Conflict(f"There is a {kind} {id_!r} already; it was left as it is. Choose another id, or change it.")
    return Conflict(
        f"The {kind} {id_!r} is at revision {revision}, not {expect}: somebody changed it meanwhile. Nothing of this "
        "change was kept; read it again and decide again."
    )


def no_version(version: str) -> NotFound:
    return NotFound(
        f"There is no agent version {version!r}. `remanence agents versions` shows those there are."
    ).because("no_version", version=version[:40])


def no_budget(scope: str) -> NotFound:
    return NotFound(f"There is no such budget for {plain_scope(scope)!r}. Nothing was changed; set one first.")


def no_hold(scope: str) -> NotFound:
    return NotFound(f"No freeze stands over {plain_scope(scope)!r}. There is nothing to lift.")


def bad_fork(fork: Fork, head: int) -> InvalidInput:
    return InvalidInput(
        f"A session cannot be forked at position {fork.position} of {fork.source!r}, which has positions 1 to {head}. "
        "Nothing was written.",
        param="position",
    )


def redacted_meanwhile(source: str) -> Conflict:
    """To whoever forks a session as it was before something in it was erased."""
    return Conflict(
        f"Something in session {source!r} was erased while it was forked. Nothing was written; fork it again."
    ).because("redacted_meanwhile", session=source)


def bad_redaction(session: str, position: int, fork: Fork | None, head: int) -> InvalidInput:
    if fork is not None and 1 <= position <= fork.position:
        where = f"record {position} of session {session!r} belongs to {fork.source!r}: erase it there"
    else:
        where = f"session {session!r} has no record {position}, only 1 to {head}"
    return InvalidInput(f"Nothing was erased and nothing was written: {where}.", param="position")


def content_missing(session: str, position: int) -> StoreCorrupt:
    return StoreCorrupt(
        f"The content of record {position} of session {session!r} is missing from the blobs. The rest was left as it "
        "is; run `remanence sessions verify` to find the extent, and restore from a backup."
    )


def records_missing(session: str, after: int, head: int) -> StoreCorrupt:
    return StoreCorrupt(
        f"Of session {session!r} the records after {after} cannot be found, and its row knows of {head}. The rest was "
        "left as it is; run `remanence sessions verify` to find the extent, and restore from a backup."
    )


def content_changed(session: str, position: int) -> StoreCorrupt:
    return StoreCorrupt(
        f"The content of record {position} of session {session!r}, which lies among the blobs, is not what was "
        "written. It was left as it is; run `remanence sessions verify` to find the extent, and restore from a backup."
    )


def blob_damaged(digest: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"The content of blob {digest} is damaged. It was left as it is; run `remanence sessions verify` to find the "
        "extent, and restore from a backup."
    )


def bad_scope(scope: str) -> InvalidInput:
    return InvalidInput(
        f"{scope!r} is not something that can be frozen: give `all`, `project:NAME` or `agent:NAME`. Nothing was "
        "changed; a single session is frozen by its own command.",
        param="scope",
    )


def unfit_text(text: str) -> InvalidInput:
    return InvalidInput(
        f"{text!r} cannot name a session, an actor or a key: it holds a zero character or half of a surrogate pair. "
        "Nothing was written."
    )


def unfit_event(session: str, kind: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"A {kind} of this shape cannot be kept in session {session!r}: {plain_words(why)}. Nothing was written; give "
        "it values of the types it is declared with."
    )


def no_memory(project: str, memory: str, version: int | None) -> NotFound:
    which = f"memory {memory!r}" if version is None else f"version {version} of memory {memory!r}"
    return NotFound(f"There is no {which} in project {project!r}. It was never kept here, or it was erased.")


def unselective(selector: object) -> InvalidInput:
    return InvalidInput(
        f"{selector!r} names no memory, session, subject, store or scope, so it would remove the whole project. "
        "Nothing was removed; say which memories are meant."
    )


def still_seen(by: str) -> StoreUnavailable:
    """To whoever wants what was deleted out of the files, while somebody could still look at it."""
    return StoreUnavailable(
        f"The files still hold what was deleted, for {by}. It is in no journal and no index any more. When they have "
        "ended, the files can be rid of it: an erasure tries again by itself, and signs its receipt then."
    )
