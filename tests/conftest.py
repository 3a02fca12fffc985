"""Real servers for whoever asks for them: a Postgres and a Valkey per test process, a database per test."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
import redis
from hypothesis import settings as examples

from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.settings import Settings, read_settings
from gsd_tasks.settings import settings as settings_of_process
from gsd_tasks.store import Database
from gsd_tasks.telemetry import otlp
from tests.aftermath import pytest_runtest_makereport, pytest_runtest_protocol
from tests.cluster import Cluster
from tests.databases import ease_entry, make_template, own_database
from tests.late import pytest_runtest_call
from tests.ports import own_port
from tests.together import pytest_xdist_make_scheduler

# A crash of the host loses a test run, not somebody's sessions, and nobody has a replica of it: what is written for
# those two alone is left out. What a client sees of a commit, `synchronous_commit` among it, is as it is in earnest.
FAST_POSTGRES = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_compression": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "128MB",
    "shared_buffers": "32MB",
    "file_copy_method": "clone",
}
#: Where Linux keeps files in memory. A database there is made in a fifth of the time that it takes on a disk.
MEMORY = Path("/dev/shm")
SERVERS_NEED_BYTES = 2**30
PREFIX, LOCK = "gsd-servers-", "lock"

__all__ = [
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_xdist_make_scheduler",
]

# Made-up examples are the same wherever the suite runs, as Hypothesis has it in CI, and none is too slow: how long one
# takes says how busy the machine is. `--hypothesis-profile random` makes others each time.
examples.register_profile("random", examples.get_profile("ci"), derandomize=False)
examples.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting, no credential and no start-up file of the machine reaches a test, nor what it starts."""
    # The CLI's Bash tool reads the start-up files of its user's shell, and those of this machine may do anything.
    os.environ |= {"HOME": str(tmp_path_factory.mktemp("home")), "SHELL": "/bin/sh"}
    for name in list(os.environ):
        if name.startswith(("GSD_", "ANTHROPIC_", "CLAUDE", "CELERY_", "FLOWER_")):
            del os.environ[name]
    # A shell's background job has SIGINT ignored, and every process that a test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """What a process reads once from its environment is not what another test of this process had there."""
    settings_of_process.cache_clear()
    otlp.is_on.cache_clear()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    place = _quick_folder() or Path(tempfile.gettempdir())
    _clear_up(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    try:
        with (
            _kept(folder),
            patch("gsd_tasks.local.embedded.choose_port", own_port),
            embedded_servers(folder / "s", extra_postgres_settings=FAST_POSTGRES) as running,
        ):
            ease_entry(running)
            make_template(running)
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(servers: EmbeddedServers) -> Iterator[str]:
    """An own database with the present schema."""
    with own_database(servers) as url:
        yield url


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings for a worker in this process: its servers, its folder, short times."""
    values = {
        "database_url": database_url,
        "redis_url": redis_url,
        "state_dir": tmp_path / "state",
        "workspace_roots": (str(tmp_path),),
        "grace_s": 1,
    }
    return Settings.model_validate(read_settings().model_dump(exclude={"state_dir"}) | values)


@pytest.fixture
def cluster(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """The real command line's processes on the test's own database; nothing of them is left afterwards."""
    with Cluster(database_url, redis_url, tmp_path) as running:
        yield running


def _quick_folder() -> Path | None:
    """In memory, if there is room (in a container there may be 64 MB); else wherever temporary files go."""
    if not os.access(MEMORY, os.W_OK | os.X_OK) or shutil.disk_usage(MEMORY).free < SERVERS_NEED_BYTES * 4:
        return None
    return MEMORY


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Ours for the length of the block: whoever dies in it lets go of it too."""
    with (folder / "new").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Not before: who finds a lock that nobody holds clears up.
        (folder / "new").rename(folder / LOCK)
        yield


def _clear_up(place: Path) -> None:
    """Remove what killed runs left behind: in memory, it would stay there until the machine is started anew."""
    for lock in place.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
