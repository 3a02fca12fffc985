"""Whether a worker could run here, with these settings and as this user: everything that it would need, looked at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gsd_tasks.process.contain import inspect_host
from gsd_tasks.process.survival import shims_survive
from gsd_tasks.service import host_checks, link_checks, record_checks, server_checks
from gsd_tasks.service.findings import Finding, State

if TYPE_CHECKING:
    from gsd_tasks.settings import Settings

__all__ = ["Finding", "State", "can_run", "examine"]


def examine(settings: Settings, *, database_url: str | None, redis_url: str | None) -> list[Finding]:
    """One finding for each thing that matters; nothing is changed. An address of None is a finding, too."""
    return [
        host_checks.program(),
        host_checks.state_folder(settings.state_dir.absolute()),
        host_checks.memory(),
        *(_examine_processes(settings) if sys.platform == "linux" else ()),
        host_checks.claude(settings),
        host_checks.credentials(settings),
        *([host_checks.secrets(settings.secrets_dir)] if settings.secrets_dir else []),
        host_checks.workspace_roots(settings.workspace_roots),
        *_examine_database(settings, database_url),
        *_examine_broker(redis_url),
    ]


def can_run(findings: list[Finding]) -> bool:
    """Whether none of them keeps a worker from running."""
    return all(finding.state is not State.PROBLEM for finding in findings)


def _examine_database(settings: Settings, url: str | None) -> list[Finding]:
    findings = server_checks.postgres(url)
    if url is None or not can_run(findings):
        return findings
    return [*findings, *link_checks.postgres(url), *record_checks.examine(settings, url)]


def _examine_broker(url: str | None) -> list[Finding]:
    finding = server_checks.broker(url)
    if url is None or not can_run([finding]):
        return [finding]
    return [finding, *link_checks.broker(url), *server_checks.keeping(url)]


def _examine_processes(settings: Settings) -> list[Finding]:
    host = inspect_host()
    return [
        host_checks.containment(host),
        host_checks.process_limit(host, settings.max_processes),
        host_checks.shims(shims_survive()),
    ]
