"""Every kind of tool, one file each; `functions.py` is the one that runs code of yours."""

from __future__ import annotations

from remanence.tools.builtin import ask_human, open_result, sleep_until
from remanence.tools.client import client_tool
from remanence.tools.functions import NOT_HAPPENED, FunctionTool, ToolOptions, tool
from remanence.tools.mcp import McpServer

__all__ = [
    "NOT_HAPPENED",
    "FunctionTool",
    "McpServer",
    "ToolOptions",
    "ask_human",
    "client_tool",
    "open_result",
    "sleep_until",
    "tool",
]
