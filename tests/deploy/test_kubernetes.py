"""The manifests fit the schemas of Kubernetes, ask for what there is, and scale by what is to be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import typer.main
import yaml
from kubernetes_validate import validate

from gsd_tasks.cli.app import _app
from gsd_tasks.domain.session import SLOTS, Holder, SessionId, Submission
from gsd_tasks.service.node import LAST_WORDS_S
from gsd_tasks.service.submit import submit
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, transitions
from tests.workers import register_worker

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
#: The newest release, and the oldest one that still gets mended.
VERSIONS = ("1.37", "1.35")
#: Of Kustomize and KEDA, which have schemas of their own.
FOREIGN = {"Kustomization", "ScaledObject", "TriggerAuthentication"}

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    return [document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def of_kind(*kinds: str) -> list[Manifest]:
    return [document for document in manifests() if document["kind"] in kinds]


def containers() -> Iterator[tuple[str, Manifest, Manifest]]:
    """Each with its pod's specification."""
    for document in of_kind("Deployment", "StatefulSet", "Job"):
        pod = document["spec"]["template"]["spec"]
        for container in pod["containers"]:
            yield document["metadata"]["name"], pod, container


@pytest.mark.parametrize("version", VERSIONS)
def test_each_manifest_fits_the_schema_of_kubernetes(version: str) -> None:
    for document in manifests():
        if document["kind"] not in FOREIGN:
            validate(document, version, strict=True)


def test_all_is_applied_but_the_template_of_the_secret_and_what_needs_keda() -> None:
    (kustomization,) = of_kind("Kustomization")
    applied = set(kustomization["resources"])

    assert {path.name for path in FOLDER.glob("*.yaml")} - applied == {
        "kustomization.yaml",
        "secret.example.yaml",
        "keda.yaml",
    }


def test_each_container_runs_a_command_that_there_is_and_is_hardened() -> None:
    group: Any = typer.main.get_command(_app())
    there_are = set(group.commands)
    ran = set()
    for name, pod, container in containers():
        ran.add(container["args"][0])
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        assert container["securityContext"]["readOnlyRootFilesystem"], name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["limits"]["memory"], name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claims = {"spools"} if name == "gsd-worker" else set()
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claims, name
    assert ran == {"migrate", "worker", "maintenance", "beat", "api", "flower"}
    assert ran <= there_are


def test_each_variable_is_a_setting_and_each_secret_is_in_the_template() -> None:
    settings = {f"GSD_{name.upper()}" for name in Settings.model_fields} | {"HOME", "ANTHROPIC_API_KEY"}
    (template,) = of_kind("Secret")
    (shared,) = of_kind("ConfigMap")

    assert not any(template["stringData"].values())
    assert set(shared["data"]) <= settings
    for name, _, container in containers():
        assert {variable["name"] for variable in container["env"]} <= settings, name
        keys = [variable["valueFrom"]["secretKeyRef"] for variable in container["env"] if "valueFrom" in variable]
        assert {key["key"] for key in keys} <= set(template["stringData"]), name
        assert {key["name"] for key in keys} == {template["metadata"]["name"]}, name


def test_what_only_waits_for_postgres_is_not_ended_by_a_probe() -> None:
    for name, _, container in containers():
        probe = container.get("livenessProbe", {})
        match probe:
            case {"exec": {"command": ["sh", "-c", command]}}:
                assert re.fullmatch(rf"gsd-tasks healthy {container['args'][0]}; test \$\? -ne 1", command), name
            case {"httpGet": {"path": path}}:
                assert path == "/healthz", name
            case _:
                assert name == "gsd-migrate"


def test_a_worker_is_given_the_time_that_its_draining_takes() -> None:
    ((pod, worker),) = [(pod, container) for name, pod, container in containers() if name == "gsd-worker"]
    variables = {variable["name"]: variable.get("value") for variable in worker["env"]}

    assert variables["GSD_DRAIN"] == "finish"
    needed_s = float(variables["GSD_DRAIN_S"] or 0) + 2 * Settings().grace_s + LAST_WORDS_S
    assert pod["terminationGracePeriodSeconds"] >= needed_s + 30


def test_services_lead_to_pods_that_have_the_port() -> None:
    pods = {
        document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: document["spec"]["template"]
        for document in of_kind("Deployment", "StatefulSet")
    }
    for service in of_kind("Service"):
        spec = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]["spec"]
        names = {port["name"] for container in spec["containers"] for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"].get("ports", [])} <= names


def test_keda_scales_the_workers_by_a_secret_that_there_is() -> None:
    (scaled,) = of_kind("ScaledObject")
    (authentication,) = of_kind("TriggerAuthentication")
    (workers,) = of_kind("StatefulSet")
    (template,) = of_kind("Secret")
    (trigger,) = scaled["spec"]["triggers"]

    target = scaled["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (workers["kind"], workers["metadata"]["name"])
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert reference["parameter"] == "connection"
    assert reference["key"] in template["stringData"]
    # Its values are text, whatever they mean.
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert float(trigger["metadata"]["targetQueryValue"]) == SLOTS


def test_the_query_of_keda_counts_what_runs_and_what_could(database: Database, database_url: str) -> None:
    (scaled,) = of_kind("ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]

    def enqueue(**fields: Any) -> SessionId:
        request = Submission(**{"command": ("true",), "working_dir": "/", **fields})
        return submit(database, lambda *_, **__: None, request).id

    def counted() -> int:
        with psycopg.connect(database_url) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    assert counted() == 0
    first = enqueue()
    enqueue()
    assert counted() == 2
    with database.connection() as connection:
        worker = register_worker(connection)
        assert transitions.claim(connection, first, holder=Holder(uuid4()), worker_id=worker, slot=1, lease_s=30)
    assert counted() == 2
    # What is nobody's yet, or another queue's.
    enqueue(after=(first,))
    enqueue(queue="other")
    enqueue(run_at=datetime.now(UTC) + timedelta(days=1))
    assert counted() == 2
