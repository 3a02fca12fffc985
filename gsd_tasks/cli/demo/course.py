"""The course of the demo: start, queue, watch, account for it, stop, and say how it went."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Final

from gsd_tasks.cli import exits
from gsd_tasks.cli.demo.cluster import DemoCluster, check_installed
from gsd_tasks.cli.demo.jobs import SCRIPT, Job, change_problems, changes, prepare
from gsd_tasks.cli.demo.lanes import Lane, Page
from gsd_tasks.cli.demo.leftovers import adopt_orphans
from gsd_tasks.cli.display import Display
from gsd_tasks.cli.follower import Broke, Ended, Follower
from gsd_tasks.cli.progress import Progress
from gsd_tasks.cli.signals import Signalled, Signals
from gsd_tasks.cli.tables import print_table
from gsd_tasks.client import Client
from gsd_tasks.domain.errors import Unavailable
from gsd_tasks.domain.session import SLOTS, Session, SessionId
from gsd_tasks.domain.units import print_took
from gsd_tasks.local.addresses import running_api, running_flower
from gsd_tasks.local.flower_password import USER
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.testing import OfflineModel

_EVENT_S: Final = 0.05
_LOOK_S: Final = 0.5
_JOB_BOUND_S: Final = 60.0
_WATCH_BOUND_S: Final = 120.0
_STOP_S: Final = 2.0


class Interrupted(Exception):
    """Somebody wants it to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_demo(*, keep: bool) -> int:
    """0 if all went as it should, 1 if not, 128+n if signal n ended it. Changes this process's environment for good.

    Raises:
        ConfigurationError: it cannot run here.
    """
    claude = check_installed()
    adopt_orphans()
    with _signals() as signals:
        folder = Path(tempfile.mkdtemp(prefix="gsd-demo-"))
        try:
            # As root, Postgres may have to run as another user, who has to come through.
            folder.chmod(0o711)
            problems = Demo(folder, claude, signals).run()
        except Interrupted as interrupted:
            return exits.of_signal(interrupted.number)
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
        return _conclude(folder, problems, keep=keep)


@contextmanager
def _signals() -> Iterator[Signals]:
    with Signals.caught() as signals:
        signals.leave_on_next = False  # the second Ctrl-C of somebody impatient must not leave half of it behind
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # the terminal was closed
        yield signals


class Demo:
    """One demo in `folder`."""

    def __init__(self, folder: Path, claude: Path, signals: Signals) -> None:
        self._folder = folder
        self._claude = claude
        self._events = signals.events

    def run(self) -> list[str]:
        """All of it, up to the cluster's end; what was otherwise than it should be.

        Raises:
            Interrupted: by a signal; everything is stopped then, as after any other error.
        """
        with OfflineModel(SCRIPT) as model:
            cluster = DemoCluster(self._folder, self._claude, model.env)
            cluster.enter_environment()
            left: list[str] = []
            try:
                self._start(cluster)
                with Client() as client:
                    problems = self._work(client, cluster)
            except Interrupted:
                with suppress(OSError):
                    _say("\nInterrupted.")
                raise
            finally:
                left += _stop(cluster)
        return problems + left

    def _start(self, cluster: DemoCluster) -> None:
        _say("A whole gsd-tasks cluster on this machine, at work on three sessions (jobs) at once.")
        _say("It needs no account and no key, talks on 127.0.0.1 alone, and is gone when it is over.")
        _say(f"Its folder: {self._folder}\n")
        _say("Starting Postgres, Valkey (a Redis), a worker with three slots, maintenance, beat, Flower, the API ...")
        began = time.monotonic()
        cluster.start()
        while not cluster.is_ready():
            self._wait_for_event(cluster)
        _say(f"Ready after {time.monotonic() - began:.1f} s. The API: {running_api(cluster.state_dir)}")
        password = StateDir(cluster.state_dir).flower_password
        _say(f"Flower, in a browser: {running_flower(cluster.state_dir)} (user: {USER}, password: {password})\n")

    def _work(self, client: Client, cluster: DemoCluster) -> list[str]:
        jobs = prepare(cluster.work)
        _say("The sessions, one for each slot:")
        for job in jobs:
            _say(f"  {job.name:<6}  " + f"\n{'':10}".join(job.about))
        _say("\nWhat they print, read from Postgres as it is committed there (seconds, session, line):\n")
        sessions = self._watch(client, cluster, jobs)
        _say("")
        _print_sessions(jobs, sessions)
        _say("\nWhat the Claude session changed:")
        for line in changes(cluster.work):
            _say(f"  {line}")
        return [
            *(problem for job, session in zip(jobs, sessions, strict=True) for problem in job.problems(session)),
            *change_problems(cluster.work),
            *_concurrency_problems(sessions),
        ]

    def _watch(self, client: Client, cluster: DemoCluster, jobs: Sequence[Job]) -> list[Session]:
        """Queue them, show what they print, and return them as they ended, in the order of `jobs`."""
        page = Page()
        progress: dict[SessionId, Progress] = {}
        followers: list[Follower] = []
        try:
            for job in jobs:
                working_dir = cluster.work / job.name
                session = client.enqueue(**job.request, name=job.name, working_dir=working_dir, timeout_s=_JOB_BOUND_S)
                lane = Lane(page, job.name, job.colour)
                progress[session.id] = Progress(client, session, lane)
                display = Display(lane, session.kind)
                followers.append(Follower(client, session, lane, display, progress[session.id]))
                progress[session.id].refresh()
                followers[-1].start(self._events)
            ended = self._until_all_ended(cluster, progress)
        finally:
            for follower in followers:
                follower.stop(_STOP_S)
        return [ended[session_id] for session_id in progress]

    def _until_all_ended(self, cluster: DemoCluster, progress: dict[SessionId, Progress]) -> dict[SessionId, Session]:
        ended: dict[SessionId, Session] = {}
        give_up_at, look_at = time.monotonic() + _WATCH_BOUND_S, time.monotonic() + _LOOK_S
        while len(ended) < len(progress):
            match self._wait_for_event(cluster):
                case Ended(session):
                    ended[session.id] = session
                    progress[session.id].refresh()
                case Broke(error):
                    raise error
                case _ if time.monotonic() > give_up_at:
                    raise TimeoutError(f"the sessions have not ended after {_WATCH_BOUND_S:.0f} s")
                case _ if time.monotonic() > look_at:
                    look_at = time.monotonic() + _LOOK_S
                    for session_id in progress.keys() - ended.keys():
                        with suppress(Unavailable):  # the followers wait for the database
                            progress[session_id].refresh()
        return ended

    def _wait_for_event(self, cluster: DemoCluster) -> object:
        """What has happened, or None after a moment.

        Raises:
            Interrupted: by a signal.
            ConfigurationError: the cluster has ended by itself.
        """
        try:
            event = self._events.get(timeout=_EVENT_S)
        except Empty:
            cluster.check()
            return None
        if isinstance(event, Signalled):
            raise Interrupted(event.number)
        return event


def _print_sessions(jobs: Sequence[Job], sessions: Sequence[Session]) -> None:
    headings = ("SESSION", "STATE", "SLOT", "ATTEMPT", "ROWS", "TOOK", "EXIT", "REASON")
    print_table(headings, [(job.name, *_cells(session)) for job, session in zip(jobs, sessions, strict=True)])


def _cells(session: Session) -> tuple[str, ...]:
    took = (session.ended_at - session.started_at).total_seconds() if session.ended_at and session.started_at else None
    return (
        str(session.status),
        str(session.slot or "-"),
        str(session.attempt),
        str(session.seq),
        "-" if took is None else print_took(took),
        "-" if session.exit_code is None else str(session.exit_code),
        str(session.reason),
    )


def _concurrency_problems(sessions: Sequence[Session]) -> list[str]:
    """Whether each had a slot of its own, and all ran at the same time."""
    problems = []
    slots = sorted(session.slot or 0 for session in sessions)
    if slots != list(range(1, SLOTS + 1)):
        problems.append(f"the sessions should have had the slots 1 to {SLOTS}, and had {slots}")
    started = [session.started_at for session in sessions if session.started_at]
    ended = [session.ended_at for session in sessions if session.ended_at]
    if not started or not ended or max(started) >= min(ended):
        problems.append("the sessions did not all run at the same time")
    return problems


def _stop(cluster: DemoCluster) -> list[str]:
    """Stop it, whether or not anybody still reads what we say about it."""
    with suppress(OSError):
        _say("\nStopping the cluster ...")
    left = cluster.stop()
    with suppress(OSError):
        if left:
            _say(f"Still running after that, and killed: {'; '.join(left)}")
        else:
            _say("Stopped: of all that was started, no process is left.")
    return [f"left running: {process}" for process in left]


def _conclude(folder: Path, problems: list[str], *, keep: bool) -> int:
    if keep:
        _say(f"Kept: {folder}. `gsd-tasks up --state-dir {folder / 'state'}` starts this cluster again.")
    elif folder.exists():
        problems = [*problems, f"{folder} could not be removed"]
    if problems:
        _say("\nNot everything went as it should:")
        for problem in problems:
            _say(f"  {problem}")
        return 1
    _say('\nEverything went as it should. Your own: `gsd-tasks up`, and in another terminal `gsd-tasks run "PROMPT"`.')
    return exits.OK


def _say(words: str) -> None:
    print(words, flush=True)
