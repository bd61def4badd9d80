"""The native faces under `/admin/v1`: what the vendors' formats have no words for.

Every route is one verb of `commands/`. A key needs the scope `admin`; it sees and changes what belongs to its project,
and what belongs to another is not found. Two things reach further, because one process serves all projects: a freeze of
`all`, and `/metrics`.
"""

from __future__ import annotations

from remanence.api.admin.erasure import erasure_router
from remanence.api.admin.line import line_router
from remanence.api.admin.memory import memory_router
from remanence.api.admin.money import money_router
from remanence.api.admin.people import people_router
from remanence.api.admin.sessions import sessions_router
from remanence.api.admin.state import state_router
from remanence.api.admin.versions import versions_router
from remanence.api.router import Face

__all__ = ["admin_router"]

admin_router = Face(at="/admin/v1")
for _router in (
    sessions_router,
    people_router,
    memory_router,
    erasure_router,
    money_router,
    state_router,
    line_router,
    versions_router,
):
    admin_router.include_router(_router)
