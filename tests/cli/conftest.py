"""What every test of the command line may ask for, and which of them are run both ways.

A test that works in a project is run twice in the modules `BOTH_WAYS`: once with the database, once with a real server
process that runs for it and that the commands find by themselves. (The server has no worker, so that what a test sees
between two commands stays as it is; work is done by the commands, as they do when no server can.) A test that looks at
the database file itself, or needs that no server is there, says `@pytest.mark.direct`.
"""

from __future__ import annotations

import pytest
from cli_project import cli, folder, process, project, served, way

__all__ = ["cli", "folder", "process", "project", "served", "way"]

BOTH_WAYS = {
    "test_agents_commands",
    "test_figures_commands",
    "test_if_busy",
    "test_money_commands",
    "test_moving_commands",
    "test_people_commands",
    "test_sessions_commands",
}


def pytest_configure(config: pytest.Config) -> None:
    """Name what tests may say of themselves."""
    config.addinivalue_line("markers", "direct: only with the database, no server in between")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Twice, where that is asked for."""
    name = getattr(metafunc.module, "__name__", "")
    both = name in BOTH_WAYS and {"cli", "project"} <= set(metafunc.fixturenames)
    if both and not metafunc.definition.get_closest_marker("direct"):
        metafunc.parametrize("way", ["database", "server"], indirect=True)
