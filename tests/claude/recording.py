"""What the golden files are recordings of, and how a recording is made fit to be kept.

`golden/NAME.jsonl` is what the real CLI printed in the scene of that name, `golden/NAME.txt` what `gsd-tasks logs`
makes of it. `python -m tests.claude.record` writes both anew.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_rendering import render_line
from gsd_tasks.domain.claude_results import ResultEvent
from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.transcript import user_message
from gsd_tasks.process.claude import claude_argv, claude_env, make_private_dir
from gsd_tasks.testing import ApiError, OfflineModel, Reply, Script, Text, Thinking, ToolCall, by_prompt
from tests.claude_cli import BUNDLED_CLAUDE

GOLDEN: Final = Path(__file__).parent / "golden"

_DEADLINE_S: Final = 60
_WRITE: Final = ToolCall("Write", {"file_path": "{cwd}/hello.txt", "content": "hello\nworld\n"})
_FORBIDDEN: Final = ToolCall("Bash", {"command": "/usr/bin/mkfifo pipe", "description": "Make a pipe"})
_SCHEMA: Final = '{"type":"object","properties":{"answer":{"type":"number"}},"required":["answer"]}'
_OVERLOADED: Final = ApiError(529, "overloaded_error", "Overloaded")

# What is another one in each run: how long something took, when it was, and which one of many it is.
_TIMES: Final = re.compile(r'("?\w*(?:_ms|DurationMs|duration|end_time)"?:)\s*\d+(?:\.\d+)?')
_MOMENTS: Final = re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"')
_SOCKETS: Final = re.compile(r"/cc-socks/\d+\.sock")
_IDS: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=toolu_)[0-9a-f]{24}|(?<=msg_)[0-9a-f]{24}"
    r'|\ba[0-9a-f]{16}\b|(?<="harnessSectionHash":")[0-9a-f]{16}'
    r"|\b[0-9a-z]{9}-[0-9a-f]{8}\b"
)


@dataclass(frozen=True)
class Scene:
    """A run of the CLI: what the model says, what people say, and how the CLI is started for it."""

    script: Script
    said: tuple[str, ...] = ("Greet the world",)
    options: ClaudeOptions = field(default_factory=ClaudeOptions)
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


#: What of the CLI's words is relied on, each in a run as short as can be.
SCENES: Final = {
    "tool": Scene([Reply.of(Text("I write it.\nOne file is enough."), _WRITE), Text("Done: hello.txt greets.")]),
    "thinking": Scene(
        [
            Reply.of(Thinking("They want a greeting.\nA file will do, I think, and it should have two lines."), _WRITE),
            Reply.of(Thinking(""), Text("Done.")),
        ]
    ),
    "denied": Scene([_FORBIDDEN, Text("I may not.")]),
    "retried": Scene([_OVERLOADED, ApiError(429, "rate_limit_error", "Slow down", retry_after=1), Text("After all.")]),
    "refused": Scene([ApiError(401, "authentication_error", "no such key")] * 3, env={"CLAUDE_CODE_MAX_RETRIES": "1"}),
    "max_turns": Scene([_WRITE, _WRITE, Text("Done.")], options=ClaudeOptions(max_turns=1)),
    "two_turns": Scene([Text("Hello."), Text("Goodbye.")], said=("Say hello", "Now say goodbye,\nand be brief")),
    "partial": Scene(
        # No path: it would come in pieces, and stay what it is.
        [Reply.of(Thinking("Briefly."), Text("I say it."), ToolCall("Bash", {"command": "echo hello"})), Text("Done.")],
        flags=("--include-partial-messages",),
    ),
    "fallback": Scene(
        [_OVERLOADED] * 3 + [Text("Another one answers.")], flags=("--fallback-model=claude-sonnet-4-5",)
    ),
    "subagent": Scene(
        by_prompt(
            {"Look around": [ToolCall("Bash", {"command": "echo all quiet"}), Text("All is quiet.\nNobody is here.")]},
            default=[
                ToolCall("Task", {"description": "look", "prompt": "Look around", "subagent_type": "general-purpose"}),
                Text("It says that all is quiet."),
            ],
        )
    ),
    "compacted": Scene(
        [Text("Hello."), Text("<summary>They said hello.</summary>")],
        said=("Say hello", "/compact"),
    ),
    "structured": Scene([ToolCall("StructuredOutput", {"answer": 42})], flags=(f"--json-schema={_SCHEMA}",)),
}


def record_scene(scene: Scene) -> list[str]:
    """Play the scene with the real CLI, in a folder of its own; what it printed, line by line, as it is kept."""
    # A short and always equally long path: the CLI puts sockets below it, and its length is part of the token counts.
    with tempfile.TemporaryDirectory(prefix="gsd-c-", dir="/tmp") as home:
        return _record(scene, Path(home))


def _record(scene: Scene, home: Path) -> list[str]:
    work, private = home / "work", home / "p"
    work.mkdir()
    session_id = uuid.uuid4()
    folder = make_private_dir(private, session_id, 1)
    with OfflineModel(scene.script) as model:
        base = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [*claude_argv(BUNDLED_CLAUDE, session_id, scene.options), *scene.flags],
            cwd=work,
            env=base | model.env | claude_env(folder, scene.options) | scene.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            lines = _talk(process, scene.said)
    assert lines, f"the CLI printed nothing and ended with {process.returncode}"
    return list(normalise(lines, {str(work): "/srv/project", str(folder): "/srv/private", str(home): "/srv"}))


def render_all(lines: Iterable[str]) -> list[str]:
    """What a person is shown of a recording."""
    return [shown for line in lines for shown in render_line(line)]


def normalise(lines: Iterable[str], places: dict[str, str]) -> Iterator[str]:
    """Recorded lines with everything in them that another run would have otherwise made the same."""
    ids: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        count = ids.setdefault(found[0], f"{len(ids) + 1}")
        return re.sub(r"[0-9a-z]", "0", found[0])[: -len(count)] + count

    slugs = {re.sub(r"[^A-Za-z0-9]", "-", place): neutral.replace("/", "-") for place, neutral in places.items()}
    for line in lines:
        kept = line
        for place, neutral in sorted((places | slugs).items(), reverse=True):
            kept = kept.replace(place, neutral)
        kept = _SOCKETS.sub(
            "/cc-socks/1.sock", _MOMENTS.sub('"2026-01-01T00:00:00.000Z"', _TIMES.sub(r"\g<1>1000", kept))
        )
        yield _IDS.sub(number, kept)


def _talk(process: subprocess.Popen[bytes], said: Sequence[str]) -> list[str]:
    """What the CLI prints until it ends, which is told one thing after the other, each when the last one is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    messages = [user_message(uuid.UUID(int=number), text) for number, text in enumerate(said, 1)]
    deadline = threading.Timer(_DEADLINE_S, process.kill)
    deadline.start()
    lines = []
    process.stdin.write(messages.pop(0))
    process.stdin.flush()
    for line in process.stdout:
        lines.append(line.decode().removesuffix("\n"))
        if not isinstance(parse_line(line), ResultEvent):
            continue
        if messages:
            process.stdin.write(messages.pop(0))
            process.stdin.flush()
        else:
            process.stdin.close()
    deadline.cancel()
    return lines
