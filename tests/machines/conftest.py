from __future__ import annotations

from tests.store.conftest import claim, enqueue, worker

__all__ = ["claim", "enqueue", "worker"]
