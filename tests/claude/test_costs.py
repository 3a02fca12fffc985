"""The real CLI's totals, over two turns of a process and over a resume with and without what they stood at."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import ResultEvent
from gsd_tasks.domain.costs import Totals, Turn, TurnMeter, sum_turns, totals_of_cost_state, use_of
from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.transcript import COSTS, read_entry, user_message
from gsd_tasks.process.claude import claude_argv, claude_env, make_private_dir
from gsd_tasks.testing import OfflineModel, Text, ToolCall
from tests.claude.conftest import Claude
from tests.waiting import BOUND_S

SCRIPT = (ToolCall("Bash", {"command": "/usr/bin/true"}), Text("One."), Text("Two."), Text("Three."))


class Process:
    """A CLI that is told one message after the other."""

    def __init__(self, claude: Claude, model: OfflineModel, session_id: uuid.UUID, attempt: int, record: str) -> None:
        folder = make_private_dir(claude.private_base, session_id, attempt)
        self._projects = folder / "config" / "projects"
        if record:
            (self._projects / "any").mkdir(parents=True)
            (self._projects / "any" / f"{session_id}.jsonl").write_text(record)
        options = ClaudeOptions(allowed_tools=("Bash",))
        self._process = subprocess.Popen(
            claude_argv(claude.binary, session_id, options, resumes=bool(record)),
            cwd=claude.cwd,
            env={"PATH": "/usr/bin:/bin", "HOME": str(claude.home), **model.env, **claude_env(folder, options)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        claude.started.append(self._process)

    def results(self, *messages: str) -> Iterator[ResultEvent]:
        """What it says to each."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        for message in messages:
            stdin.write(user_message(uuid.uuid4(), message))
            stdin.flush()
            yield next(event for event in map(parse_line, stdout) if isinstance(event, ResultEvent))

    def end(self) -> str:
        """Let it exit; the record that it leaves."""
        self._process.communicate(timeout=BOUND_S)
        [path] = self._projects.glob("*/*.jsonl")
        return Path(path).read_text()


def metered(results: list[ResultEvent], begin: Totals) -> list[Turn]:
    meter = TurnMeter(begin)
    return [meter.turn(result, seq) for seq, result in enumerate(results, 1)]


def last_costs(record: str) -> str | None:
    return next((line for line in reversed(record.splitlines()) if read_entry(line).kind == COSTS), None)


def without_costs(record: str) -> str:
    return "".join(line for line in record.splitlines(keepends=True) if read_entry(line).kind != COSTS)


@pytest.mark.timeout(300)
def test_the_costs_of_all_turns_are_what_the_cli_says_in_all(claude: Claude) -> None:
    session_id = uuid.uuid4()
    with OfflineModel(SCRIPT) as model:
        process = Process(claude, model, session_id, 1, "")
        first = list(process.results("Begin", "Go on"))
        record = process.end()
        entry = last_costs(record)
        assert entry is not None
        begin = totals_of_cost_state(entry)
        assert begin is not None

        process = Process(claude, model, session_id, 2, record)
        counted_on = list(process.results("Finish"))
        after = process.end()

        process = Process(claude, model, session_id, 3, without_costs(record))
        counted_anew = list(process.results("Finish"))
        process.end()

    turns = metered(first, Totals())
    [resumed], [anew] = metered(counted_on, begin), metered(counted_anew, Totals())
    assert begin.cost_usd == pytest.approx(first[1].total_cost_usd, abs=1e-9)
    assert json.loads(last_costs(after) or "")["totalCostUSD"] == pytest.approx(counted_on[0].total_cost_usd)

    # Each turn has what the CLI says of it alone: its `usage`, which here knows all there is.
    for turn, result in zip([*turns, resumed, anew], [*first, *counted_on, *counted_anew], strict=True):
        assert turn.tokens == result.tokens
        assert turn.cost_usd > 0
        assert set(turn.models) == {turn.model}
        assert turn.models[turn.model or ""] == use_of(turn)
    assert sum_turns([*turns, resumed]).cost_usd == pytest.approx(counted_on[0].total_cost_usd, abs=1e-8)
    # Both asked the model the same.
    assert (anew.tokens, anew.cost_usd) == (resumed.tokens, resumed.cost_usd)
    assert sum_turns([*turns, anew]).cost_usd == pytest.approx(
        first[1].total_cost_usd + counted_anew[0].total_cost_usd, abs=1e-8
    )
