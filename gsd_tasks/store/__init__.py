"""Postgres, and nothing else: tables, statements, migrations."""

from sqlalchemy import Connection

from gsd_tasks.store.database import Database
from gsd_tasks.store.holding import Claim
from gsd_tasks.store.schema import migrate

__all__ = ["Claim", "Connection", "Database", "migrate"]
