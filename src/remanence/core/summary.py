"""What a session's row says for lists: a few words folded from its state, kept beside its journal."""

from __future__ import annotations

from remanence.core.state import Session, status_of, waiting_on
from remanence.ports import Summary
from remanence.spec import AgentSpec

__all__ = ["summary_of"]


def summary_of(s: Session, spec: AgentSpec) -> Summary:
    """The row of this session as it stands."""
    return Summary(
        agent=s.agent,
        version=s.version,
        project=s.project,
        user=s.user,
        status=status_of(s),
        waiting_on=waiting_on(s),
        title=s.title,
        turns=s.turns,
        usd_micros=s.ledger.usd_micros,
        tokens=s.ledger.usage.total_tokens,
        needs=spec.name if any(tool.kind == "function" for tool in spec.tools) else "",
    )
