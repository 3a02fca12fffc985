"""The real CLI, with an environment of its own, a folder of its own, and the offline model for its API."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import ResultEvent
from gsd_tasks.domain.outcome import Verdict, judge
from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.transcript import user_message
from gsd_tasks.process.claude import claude_argv, claude_env, find_claude, make_private_dir
from gsd_tasks.testing import OfflineModel

DEADLINE_S = 60
STREAM = "--input-format=stream-json"


@dataclass
class Ended:
    """A run of the CLI, as a slot would see it."""

    exit_code: int | None
    exit_signal: int | None
    stdout: bytes
    stderr: bytes
    conversation: Conversation

    @property
    def verdict(self) -> Verdict:
        return judge(self.conversation, self.exit_code, self.exit_signal, ended_at=datetime.now(UTC))


@dataclass
class Claude:
    """Starts sessions in `home`, each with its private folder; `cwd` is the working directory of all."""

    binary: Path
    home: Path
    uid: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def cwd(self) -> Path:
        return self.home / "work"

    @property
    def private_base(self) -> Path:
        return self.home / "p"

    def start(
        self,
        model: OfflineModel,
        prompt: str,
        options: ClaudeOptions | None = None,
        session_id: uuid.UUID | None = None,
        attempt: int = 1,
    ) -> subprocess.Popen[bytes]:
        options, session_id = options or ClaudeOptions(), session_id or uuid.uuid4()
        private = make_private_dir(self.private_base, session_id, attempt)
        return self.spawn(claude_argv(self.binary, session_id, options), model, prompt, claude_env(private, options))

    def spawn(
        self, argv: tuple[str, ...], model: OfflineModel, prompt: str, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        process = self.open(argv, model, env)
        _say(process, prompt)
        _close_stdin(process)
        return process

    def open(self, argv: tuple[str, ...], model: OfflineModel, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Started, and told nothing yet."""
        base = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8"}
        if self.uid is not None:
            self._give_away()
        process = subprocess.Popen(
            argv,
            cwd=self.cwd,
            env=base | model.env | dict(env) | dict(self.env),
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def run(
        self,
        model: OfflineModel,
        prompt: str,
        options: ClaudeOptions | None = None,
        session_id: uuid.UUID | None = None,
        attempt: int = 1,
    ) -> Ended:
        return self.end(self.start(model, prompt, options, session_id, attempt))

    def converse(self, model: OfflineModel, *prompts: str, options: ClaudeOptions | None = None) -> Ended:
        """One turn after the other in one process: each prompt is said when the result of the last one has come."""
        options, session_id = options or ClaudeOptions(), uuid.uuid4()
        private = make_private_dir(self.private_base, session_id, 1)
        process = self.open(claude_argv(self.binary, session_id, options), model, claude_env(private, options))
        printed = b""
        for prompt in prompts:
            _say(process, prompt)
            printed += _read_turn(process)
        _close_stdin(process)
        return self.end(process, printed)

    def end(self, process: subprocess.Popen[bytes], printed: bytes = b"") -> Ended:
        """What is left of it; `printed` was read before."""
        rest, stderr = process.communicate(timeout=DEADLINE_S)
        stdout = printed + rest
        conversation = Conversation()
        for line in stdout.splitlines(keepends=True):
            conversation.feed(line.rstrip(b"\n"), eol=line.endswith(b"\n"))
        code = process.returncode
        return Ended(code if code >= 0 else None, -code if code < 0 else None, stdout, stderr, conversation)

    def _give_away(self) -> None:
        assert self.uid is not None
        for folder, _, names in os.walk(self.home):
            os.chown(folder, self.uid, self.uid)
            for name in names:
                os.chown(Path(folder, name), self.uid, self.uid, follow_symlinks=False)


def _say(process: subprocess.Popen[bytes], prompt: str) -> None:
    assert process.stdin is not None
    process.stdin.write(user_message(uuid.uuid4(), prompt))
    process.stdin.flush()


def _read_turn(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    printed = b""
    for line in process.stdout:
        printed += line
        if isinstance(parse_line(line), ResultEvent):
            break
    return printed


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's: that one is closed to other users, and too long for the CLI's sockets.
    folder = Path(tempfile.mkdtemp(prefix="gsd-c-", dir="/tmp"))
    (folder / "work").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def claude(home: Path) -> Iterator[Claude]:
    runner = Claude(find_claude(None, ""), home)
    yield runner
    for process in runner.started:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        with process:
            pass


@pytest.fixture
def as_nobody(claude: Claude) -> Claude:
    """The same under an ordinary user's id."""
    if os.geteuid() != 0:
        return claude
    probe = subprocess.run(
        ["/usr/bin/test", "-x", claude.binary], user=65534, group=65534, extra_groups=[], check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"{claude.binary} lies where no other user can reach it")
    claude.uid = 65534
    return claude
