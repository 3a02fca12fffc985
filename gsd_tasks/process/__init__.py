"""The child, and no database: its shim, its spool, its containment."""
