"""What tests of models say to one: two tools, and the shapes of the fixtures that make requests and gateways."""

from __future__ import annotations

from collections.abc import Callable

from remanence.models.gateway import Gateway
from remanence.ports import ModelRequest
from remanence.spec import ToolSpec

TOOLS = (
    ToolSpec("find_order", "Find an order.", {"type": "object", "properties": {"order": {"type": "string"}}}),
    ToolSpec("find_mail", "Find mails.", {"type": "object", "properties": {"who": {"type": "string"}}}),
)

Ask = Callable[..., ModelRequest]
OpenGateway = Callable[..., Gateway]
