"""The small process that owns a session's child on its host, and outlives the worker. Standard library only."""
