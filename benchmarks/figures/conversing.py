"""CLI: what a session of the real claude CLI takes beyond the CLI itself.

The same conversation, some turns with a tool, is held by the bare CLI and through a worker, in turn: from `enqueue`
until the client sees its end. The model is played on this machine by the offline model, the binary is that of the
package claude-agent-sdk, and its environment is made from nothing. How far the transcript is behind is the time between
an entry's own stamp and its row.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import psutil
import psycopg

from benchmarks.measuring import Contestant, Figure, Reading, Role, share_told, told
from benchmarks.rig import SLOTS
from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.transcript import user_message
from gsd_tasks.process.claude import claude_argv, claude_env, make_private_dir
from gsd_tasks.testing import Hang, OfflineModel, Request, Text, ToolCall, Turn
from tests.claude_cli import BUNDLED_CLAUDE

if TYPE_CHECKING:
    from benchmarks.rig import Rig

TURNS: Final = 5
OPTIONS: Final = ClaudeOptions(allowed_tools=("Bash",))
QUEUE: Final = "claude"
MIB: Final = 1024 * 1024
TIME: Final = "s for a session"
BEHIND: Final = "s the transcript is behind"
WORKER: Final = "MiB more of the worker"
SHIM: Final = "MiB of shim and init"
FIGURES: Final = (
    Figure("CLI", "a claude session, five tool turns", TIME, "s", share_told(), more_is_better=False),
    Figure("CLI", "its transcript behind the CLI, median", BEHIND, "s", told("s")),
    Figure("CLI", "memory of the worker, more for each session", WORKER, "MiB", told("MiB")),
    Figure("CLI", "memory of shim and init", SHIM, "MiB", told("MiB")),
)


def contestants(rig: Rig, ending: ExitStack, sessions: int) -> Sequence[Contestant]:
    """Both, with so many sessions one after the other."""
    model = ending.enter_context(OfflineModel(_play))
    env = model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE), "GSD_QUEUES": QUEUE}
    worker = rig.cluster.worker(QUEUE, env=env)
    ending.callback(worker.wait)
    ending.callback(worker.kill)
    return Ours(rig, psutil.Process(worker.pid), sessions), Bare(rig, model, sessions)


def _play(request: Request) -> Turn:
    if "wait" in request.prompt:
        return Hang(120)
    if request.answers < TURNS:
        return ToolCall("Bash", {"command": "echo step"})
    return Text("Done.")


class Ours:
    """Sessions of one worker."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, worker: psutil.Process, sessions: int) -> None:
        self._rig = rig
        self._worker = worker
        self._sessions = sessions

    def run(self) -> Reading:
        return {TIME: statistics.median(self._session_s() for _ in range(self._sessions)), **self._memory()} | {
            BEHIND: self._behind_s()
        }

    def _session_s(self) -> float:
        client, began = self._rig.client, time.monotonic()
        session = client.enqueue(
            prompt="Work", working_dir=self._rig.folder, allowed_tools=OPTIONS.allowed_tools, queue=QUEUE
        )
        client.wait(session.id, timeout_s=120)
        return time.monotonic() - began

    def _behind_s(self) -> float:
        with psycopg.connect(self._rig.servers.database_url) as connection:
            rows = connection.execute(
                "SELECT extract(epoch FROM at - (entry::jsonb->>'timestamp')::timestamptz) FROM transcript"
            )
            return statistics.median(float(behind) for (behind,) in rows if behind is not None)

    def _memory(self) -> Reading:
        """While as many sessions as there are slots wait for the model."""
        client, before = self._rig.client, _pss(self._worker)
        ids = [client.enqueue(prompt="wait", working_dir=self._rig.folder, queue=QUEUE).id for _ in range(SLOTS)]
        for id_ in ids:
            next(iter(client.follow(id_)))
        shims = [process for process in self._worker.children(recursive=True) if _is_ours_below(process)]
        reading = {WORKER: (_pss(self._worker) - before) / SLOTS / MIB, SHIM: sum(map(_pss, shims)) / SLOTS / MIB}
        for id_ in ids:
            client.cancel(id_)
            client.wait(id_, timeout_s=60)
        return reading


class Bare:
    """The CLI as the worker starts it, with nobody between."""

    name = "the CLI alone"
    role = Role.YARDSTICK

    def __init__(self, rig: Rig, model: OfflineModel, sessions: int) -> None:
        self._rig = rig
        self._model = model
        self._sessions = sessions

    def run(self) -> Reading:
        return {TIME: statistics.median(self._session_s() for _ in range(self._sessions))}

    def _session_s(self) -> float:
        session_id = uuid4()
        own = {"PATH": os.environ["PATH"], "HOME": str(self._rig.folder), "SHELL": "/bin/sh"}
        private = make_private_dir(self._rig.folder / "bare", session_id, 1)
        began = time.monotonic()
        with subprocess.Popen(
            claude_argv(BUNDLED_CLAUDE, session_id, OPTIONS),
            env=own | claude_env(private, OPTIONS) | self._model.env,
            cwd=self._rig.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(user_message(uuid4(), "Work"))
            child.stdin.flush()
            for line in child.stdout:
                if json.loads(line)["type"] == "result":
                    break
            child.stdin.close()
            child.stdout.read()
        return time.monotonic() - began


def _is_ours_below(process: psutil.Process) -> bool:
    return "nursery" not in process.name() and process.name().startswith("gsd-")


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)
