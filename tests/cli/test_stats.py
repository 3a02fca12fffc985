"""`stats` and `costs`: tables for people, one document for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import RecordedTurn, Use
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.statistics import By, Figures, Outcome, Statistics, Took
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import AT, ID

TURN = RecordedTurn(
    session_id=ID,
    attempt=1,
    at=AT,
    seq=7,
    model="claude-opus-5-5",
    subtype="success",
    is_error=False,
    num_turns=1,
    duration_s=2.5,
    tokens=Tokens(11661, 7, 0, 12),
    cost_usd=0.046784,
    models={"claude-opus-5-5": Use(11661, 7, 0, 12, 0.046784)},
)
FIGURES = Figures(
    key=None,
    sessions=3,
    outcomes=(Outcome(Status.COMPLETED, Reason.FINISHED, 2), Outcome(Status.FAILED, Reason.TIMEOUT, 1)),
    took=Took(sessions=3, p50_s=2.5, p95_s=61, max_s=3720),
    attempts=5,
    tries=1,
    recoveries=1,
    turns=4,
    tokens=Tokens(1234567, 890, 5, 6),
    cost_usd=1234.56789,
)
NOTHING = replace(
    FIGURES,
    sessions=0,
    outcomes=(),
    took=Took(sessions=0, p50_s=None, p95_s=None, max_s=None),
    attempts=0,
    tries=0,
    recoveries=0,
    turns=0,
    tokens=Tokens(0, 0, 0, 0),
    cost_usd=0.0,
)


class Client(FakeClient):
    """Has these turns and figures."""

    def __init__(self, *turns: RecordedTurn, total: Figures = FIGURES, groups: tuple[Figures, ...] = ()) -> None:
        super().__init__()
        self.known_turns = turns
        self.figures = total, groups

    def turns(self, session_id: str) -> tuple[RecordedTurn, ...]:
        self.get(session_id)
        return self.known_turns

    def stats(self, *, since: datetime | None, by: By | None) -> Statistics:
        self.requests.append({"since": since, "by": by})
        total, groups = self.figures
        return Statistics(since=since or AT - timedelta(days=30), until=AT, by=by, total=total, groups=groups)


def words(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_all_together_is_a_list_of_figures_and_a_table_of_reasons(run: Run) -> None:
    assert [line.rstrip() for line in run("stats", client=Client()).out.splitlines()] == [
        "since         2026-10-22T12:00:00.000Z",
        "ended         3: 2 completed, 1 failed, 0 cancelled",
        "took          p50 2.50s, p95 1m01s, longest 1h02m",
        "attempts      5",
        "failed tries  1",
        "recoveries    1",
        "turns         4",
        "tokens        1,234,567 in, 890 out",
        "cache         5 tokens read, 6 written",
        "cost          $1,234.5679",
        "",
        "STATUS     REASON    SESSIONS",
        "completed  finished  2",
        "failed     timeout   1",
    ]


def test_where_nothing_ended_there_is_no_table(run: Run) -> None:
    lines = words(run("stats", client=Client(total=NOTHING)).out)
    assert ["ended", "0"] in lines
    assert ["cost", "$0.0000"] in lines
    assert not [line for line in lines if line[0] in ("took", "STATUS")]


@pytest.mark.parametrize("by", By)
def test_told_apart_it_is_a_table_with_all_at_its_end(run: Run, by: By) -> None:
    client = Client(groups=(replace(FIGURES, key="one"), replace(NOTHING, key=None)))
    ran = run("stats", "--by", by, client=client)
    heading, one, none, everything = words(ran.out)
    assert heading[:9] == [by.upper(), "ENDED", "COMPLETED", "FAILED", "CANCELLED", "P50", "P95", "LONGEST", "TRIES"]
    assert one[:9] == ["one", "3", "2", "1", "0", "2.50s", "1m01s", "1h02m", "1"]
    assert one[9:] == ["1", "4", "1,234,567", "890", "5", "6", "$1,234.5679"]
    assert none[:8] == ["-", "0", "0", "0", "0", "-", "-", "-"]
    assert everything == ["all", *one[1:]]
    assert client.requests == [{"since": None, "by": by}]


@pytest.mark.parametrize(
    ("written", "moment"),
    [("7d", None), ("2026-11-01T00:00+00:00", datetime(2026, 11, 1, tzinfo=UTC))],
)
def test_a_time_may_be_so_long_ago_or_a_date(run: Run, written: str, moment: datetime | None) -> None:
    client = Client()
    assert run("stats", "--since", written, client=client).code == 0
    since = client.requests[0]["since"]
    expected = moment or datetime.now(UTC) - timedelta(days=7)
    assert abs(since - expected) < timedelta(minutes=1)


def test_a_time_or_a_key_that_there_is_not_is_one_line(run: Run) -> None:
    ran = run("stats", "--since", "yesterday", client=Client())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "gsd-tasks: --since: 'yesterday' is no time: write 10m, 1h30m or 2026-11-21T18:00\n"
    assert run("stats", "--by", "week", client=Client()).code == 2


def test_figures_are_one_json_document(run: Run) -> None:
    client = Client(groups=(replace(FIGURES, key="one"),))
    document = json.loads(run("stats", "--by", "thread", "--json", client=client).out)
    assert document["by"] == "thread"
    assert document["until"] == "2026-11-21T12:00:00+00:00"
    assert document["total"]["outcomes"][0] == {"status": "completed", "reason": "finished", "sessions": 2}
    assert document["total"]["took"] == {"sessions": 3, "p50_s": 2.5, "p95_s": 61, "max_s": 3720}
    assert document["total"]["tokens"] == {"input": 1234567, "output": 890, "cache_read": 5, "cache_write": 6}
    assert [figures["key"] for figures in document["groups"]] == ["one"]


def test_costs_are_those_of_each_turn_each_attempt_and_all(run: Run) -> None:
    failed = replace(TURN, attempt=2, is_error=True, model=None, cost_usd=0.0, tokens=Tokens(0, 0, 0, 0))
    heading, *lines = words(run("costs", "0199", client=Client(TURN, failed, replace(TURN, attempt=2))).out)
    assert " ".join(heading) == "ATTEMPT AT MODEL RESULT TOOK IN OUT CACHE READ CACHE WRITE COST"
    at = "2026-11-21T12:00:00.000Z"
    assert lines == [
        ["1", at, "claude-opus-5-5", "success", "2.50s", "11,661", "7", "0", "12", "$0.0468"],
        ["2", at, "-", "error", "2.50s", "0", "0", "0", "0", "$0.0000"],
        ["2", at, "claude-opus-5-5", "success", "2.50s", "11,661", "7", "0", "12", "$0.0468"],
        ["2", "all", "turns", "11,661", "7", "0", "12", "$0.0468"],
        ["all", "all", "turns", "23,322", "14", "0", "24", "$0.0936"],
    ]


def test_one_turn_needs_no_sum_and_none_is_said(run: Run) -> None:
    assert len(run("costs", "0199", client=Client(TURN)).out.splitlines()) == 2
    assert run("costs", "0199", client=Client()).out == "no turn has ended yet\n"
    assert run("costs", "nothing", client=Client()).code == 2


def test_costs_are_one_json_document(run: Run) -> None:
    [turn] = json.loads(run("costs", "0199", "--json", client=Client(TURN)).out)
    assert (turn["session_id"], turn["attempt"], turn["seq"], turn["cost_usd"]) == (str(ID), 1, 7, 0.046784)
    assert turn["models"]["claude-opus-5-5"]["cache_write"] == 12
