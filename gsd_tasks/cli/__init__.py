"""The command line `gsd-tasks`. Only what every command needs is imported before one is chosen: it starts fast."""

from __future__ import annotations

from gsd_tasks.cli.app import main

__all__ = ["main"]
