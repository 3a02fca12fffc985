"""Versions side by side during an upgrade: today's processes while, and after, the next version's schema is made."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.settings import Settings
from tests.cluster import Cluster
from tests.upgrading import ADDS, TAKES_AWAY, Later
from tests.waiting import BOUND_S, until

CANNOT_START = 125
#: A worker has so long to come back, on a machine that is busy with other tests.
LONG_LEASE = {"GSD_LEASE_S": "120"}
UNTIL_TOLD = "i=0; until [ -e gate ] && [ $i -ge 5 ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo end"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_today_s_processes_go_on_while_the_next_schema_is_made_and_start_on_it(
    cluster: Cluster, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    """And hand over, adopt, cancel and delete on it. One that was not made for them they refuse."""
    later = Later(tmp_path)
    cluster.maintenance(env=LONG_LEASE)
    running = cluster.worker("one", env=LONG_LEASE | {"GSD_DRAIN": "handover"})
    sessions = [start(cluster) for _ in range(3)]

    later.migrate(database_url, ADDS)
    standing = {session.id: cluster.client.get(session.id).seq for session in sessions}
    for session in sessions:
        until(lambda s=session: cluster.client.get(s.id).seq > standing[s.id], timeout_s=BOUND_S)  # type: ignore[misc]
    # Its three slots go to the next worker, of today's code as well, which takes further ones when they are free.
    running.send_signal(signal.SIGTERM)
    assert running.wait(BOUND_S) == 0
    cluster.worker("one", env=LONG_LEASE)
    with Client(settings=settings) as client:
        further = client.enqueue(command=["sh", "-c", "echo x; exec sleep 600"], working_dir=cluster.folder)
        (cluster.folder / "gate").touch()
        for session in sessions:
            ended = client.wait(session.id, timeout_s=BOUND_S)
            assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
            check_whole(client, session)
            assert Reason.ADOPTED in [entry.reason for entry in client.history(session.id)]
        next(client.follow(further.id))
        client.cancel(further.id)
        assert client.wait(further.id, timeout_s=BOUND_S).status is Status.CANCELLED
        client.delete(further.id)
    assert "Traceback" not in cluster.logs()

    later.migrate(database_url, TAKES_AWAY)
    refused = cluster.start_worker("two")
    assert refused.wait(BOUND_S) == CANNOT_START
    assert f"schema {TAKES_AWAY}, which this version" in cluster.logs()


def start(cluster: Cluster) -> Session:
    session = cluster.client.enqueue(command=["sh", "-c", UNTIL_TOLD], working_dir=cluster.folder)
    next(cluster.client.follow(session.id))
    return session


def check_whole(client: Client, session: Session) -> None:
    rows = list(client.follow(session.id))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    *numbers, end = [row.as_text() for row in rows]
    assert (numbers, end) == ([str(number) for number in range(1, len(numbers) + 1)], "end")
