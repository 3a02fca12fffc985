"""The cluster that the API is of: the client that the routes call."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from gsd_tasks.client.database import DatabaseClient


async def client_of(request: Request) -> DatabaseClient:
    """A dependency: the client of the app that is asked."""
    client: DatabaseClient = request.app.state.client
    return client


Cluster = Annotated[DatabaseClient, Depends(client_of)]
