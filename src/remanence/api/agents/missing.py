"""Parts of the Agents API that this release does not serve: environments, templates, vaults, automations.

Each operation of the vendors' client is there and answers with the API's own error, code `not_available`, so that a
program learns at once and in words that nothing was done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from remanence.api.agents.agents import Asker
from remanence.api.bodies import JsonRoute
from remanence.api.described import REFUSES
from remanence.api.router import Face
from remanence.errors import NotAvailable

__all__ = ["MISSING", "missing_router"]

MISSING: dict[str, tuple[tuple[str, str], ...]] = {
    "Environments are": (
        ("POST", "/agents/environments"),
        ("GET", "/agents/environments"),
        ("GET", "/agents/environments/{environment_id}"),
        ("GET", "/agents/environments/{environment_id}/connection"),
        ("POST", "/agents/environments/{environment_id}/files"),
        ("GET", "/agents/environments/{environment_id}/files"),
    ),
    "Templates of environments are": (
        ("POST", "/agents/environments/templates"),
        ("GET", "/agents/environments/templates"),
        ("GET", "/agents/environments/templates/{template_id}"),
        ("POST", "/agents/environments/templates/{template_id}"),
        ("DELETE", "/agents/environments/templates/{template_id}"),
    ),
    "Vaults are": (
        ("POST", "/vaults"),
        ("GET", "/vaults"),
        ("GET", "/vaults/{vault_id}"),
        ("POST", "/vaults/{vault_id}"),
        ("DELETE", "/vaults/{vault_id}"),
        ("POST", "/vaults/{vault_id}/credentials"),
        ("GET", "/vaults/{vault_id}/credentials"),
        ("GET", "/vaults/{vault_id}/credentials/{credential_id}"),
        ("POST", "/vaults/{vault_id}/credentials/{credential_id}"),
        ("DELETE", "/vaults/{vault_id}/credentials/{credential_id}"),
    ),
    "Automations are": (
        ("POST", "/agents/automations"),
        ("GET", "/agents/automations"),
        ("GET", "/agents/automations/{automation_id}"),
        ("POST", "/agents/automations/{automation_id}"),
        ("DELETE", "/agents/automations/{automation_id}"),
        ("POST", "/agents/automations/{automation_id}/pause"),
        ("POST", "/agents/automations/{automation_id}/resume"),
        ("POST", "/agents/automations/{automation_id}/invocations"),
        ("GET", "/agents/automations/{automation_id}/invocations"),
        ("GET", "/agents/automations/{automation_id}/invocations/{invocation_id}"),
    ),
}
"""What is not served, by the beginning of the sentence that says so."""

_PARAMETER = {"in": "path", "required": True, "schema": {"type": "string"}}

missing_router = Face(tags=["not available"], route_class=JsonRoute)


def _refusing(what: str) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def not_available(request: Request, caller: Asker) -> Response:
        """Always answers with the error `not_available`."""
        raise NotAvailable(f"{what} not available in this release. Nothing was done.")

    return not_available


for _what, _operations in MISSING.items():
    for _method, _path in _operations:
        missing_router.add_api_route(
            _path,
            _refusing(_what),
            methods=[_method],
            summary=f"{_what.removesuffix(' are')} are not available yet",
            operation_id=f"missing_{_method}{_path}".lower(),
            openapi_extra={
                **REFUSES,
                "parameters": [{**_PARAMETER, "name": name} for name in re.findall(r"{(\w+)}", _path)],
            },
        )
