"""`up` with made-up parts. Arguments: the state folder; groups of {name, code, stop_bound_s?, probe_file?}."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from gsd_tasks.local.addresses import Addresses
from gsd_tasks.local.part import Part
from gsd_tasks.local.parts import part_environment
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.local.up import print_line, run_parts
from gsd_tasks.settings import read_settings

os.environ["GSD_STATE_DIR"] = sys.argv[1]
settings = read_settings()


def part(state: StateDir, addresses: Addresses, asked: dict[str, Any]) -> Part:
    name = asked["name"]
    probe_file = asked.get("probe_file")
    return Part(
        name=name,
        argv=(sys.executable, "-c", asked["code"], f"{state.root}/"),
        env=part_environment(settings, state, addresses),
        log=state.logs / f"{name}.log",
        record=state.parts / f"{name}.json",
        cwd=state.root,
        stop_bound_s=asked.get("stop_bound_s", 20.0),
        probe=lambda _pid: probe_file is None or Path(probe_file).exists(),
    )


def parts_of(state: StateDir, addresses: Addresses) -> list[list[Part]]:
    return [[part(state, addresses, asked) for asked in group] for group in json.loads(sys.argv[2])]


def migrate(_database_url: str) -> None:
    print_line(f"migrate after {sorted(path.stem for path in StateDir(settings.state_dir).parts.iterdir())}")


sys.exit(run_parts(settings, parts_of, migrate=migrate, ready=lambda _addresses: print_line("called back")))
