"""What every test of the command line may ask for."""

from __future__ import annotations

from cli_project import cli, folder, process, project, served

__all__ = ["cli", "folder", "process", "project", "served"]
