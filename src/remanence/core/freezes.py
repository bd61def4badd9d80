"""What a freeze covers: everything, a project, or an agent of a project.

Projects have one name in a database; agents have theirs within a project. So the freeze of an agent is kept as a budget
of it is (`core.ledger.kept_scope`): `agent:support` is the one of the default project, `agent@acme:support` that of the
project `acme`, and neither stops the other.
"""

from __future__ import annotations

from remanence.core.ledger import DEFAULT_PROJECT, kept_scope

__all__ = ["Covered", "covered", "freeze_scopes", "plain_scope"]

Covered = tuple[str | None, str | None]
"""A project and an agent of it; None is any."""


def freeze_scopes(project: str, agent: str) -> tuple[str, str, str]:
    """The scopes whose freeze stops a session of this project and agent, as they are kept, widest first."""
    return ("all", f"project:{project}", kept_scope(project, f"agent:{agent}"))


def covered(scope: str) -> Covered | None:
    """Whom the freeze that is kept under this name stops; None when it is no name of a freeze."""
    if scope == "all":
        return None, None
    kind, _, name = scope.partition(":")
    plain, at, owner = kind.partition("@")
    if not name or plain not in ("project", "agent"):
        return None
    if plain == "project":
        return None if at else (name, None)
    project = owner.replace("%3A", ":").replace("%25", "%") if at else DEFAULT_PROJECT
    return (project, name) if kept_scope(project, f"agent:{name}") == scope else None


def plain_scope(scope: str) -> str:
    """What its own project calls the scope that is kept under this name."""
    kind, colon, name = scope.partition(":")
    return f"{kind.partition('@')[0]}{colon}{name}"
