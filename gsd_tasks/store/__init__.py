"""Postgres, and nothing else: tables, statements, migrations."""

from sqlalchemy import Connection

from gsd_tasks.store.database import Database
from gsd_tasks.store.schema import migrate
from gsd_tasks.store.transitions import Claim

__all__ = ["Claim", "Connection", "Database", "migrate"]
