"""Every figure in one run: `make bench`, or `python -m benchmarks --only F1,F3 --repetitions 3`."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from benchmarks import peer_tables, report
from benchmarks.bare import Bare, bare
from benchmarks.figures import (
    conversing,
    dispatching,
    enqueueing,
    following,
    idling,
    killed,
    large,
    latency,
    lines,
    memory,
    recovering,
    renewing,
)
from benchmarks.figures.peers import Peers, peers
from benchmarks.measuring import Contestant, Figure, Result, take_turns
from benchmarks.rig import Rig, rig
from benchmarks.sizes import SCALES, Sizes


class Stage(NamedTuple):
    """What there is to measure with. What a contest needs besides goes into `ending`, and ends with it."""

    rig: Rig
    bare: Bare
    sizes: Sizes
    ending: ExitStack


class Contest(NamedTuple):
    """Figures that one run gives."""

    figures: Sequence[Figure]
    contestants: Callable[[Stage], Sequence[Contestant]]
    most_repetitions: int = 100
    warm_ups: int = 1

    @property
    def keys(self) -> set[str]:
        return {figure.key for figure in self.figures}


CONTESTS = (
    Contest(lines.FIGURES, lambda on: lines.contestants(on.rig, on.sizes.lines)),
    Contest(latency.FIGURES, lambda on: latency.contestants(on.rig, on.sizes.live_lines), most_repetitions=3),
    Contest(
        dispatching.FIGURES,
        lambda on: dispatching.contestants(on.rig, on.bare, on.sizes.children, on.sizes.nothings),
    ),
    Contest(recovering.FIGURES, lambda on: recovering.contestants(on.sizes.lease_s), most_repetitions=3, warm_ups=0),
    Contest(memory.FIGURES, lambda on: memory.contestants(on.rig, on.sizes.torrent), most_repetitions=1),
    Contest(large.FIGURES, lambda on: large.contestants(on.ending, on.sizes), most_repetitions=5),
    Contest(
        following.FIGURES,
        lambda on: following.contestants(on.rig, on.sizes.followers, on.sizes.following_s),
        most_repetitions=3,
        warm_ups=0,
    ),
    Contest(
        enqueueing.FIGURES,
        lambda on: enqueueing.contestants(on.rig, on.bare, on.sizes.one_by_one, on.sizes.at_once),
    ),
    Contest(renewing.FIGURES, lambda on: renewing.contestants(on.sizes), most_repetitions=1, warm_ups=0),
    Contest(conversing.FIGURES, lambda on: conversing.contestants(on.rig, on.ending, on.sizes.conversations)),
    Contest(idling.FIGURES, lambda on: idling.contestants(on.sizes.idle_s), most_repetitions=1, warm_ups=0),
)


def main() -> None:
    asked = _asked()
    results: list[Result] = []
    failed: list[str] = []
    with _everything() as (cluster, plain, others):
        where = report.machine(cluster.servers.database_url)
        for contest in CONTESTS:
            if contest.keys & asked.only:
                try:
                    with ExitStack() as ending:
                        stage = Stage(cluster, plain, asked.sizes, ending)
                        results.append(_run(contest, stage, others, asked.repetitions))
                except Exception:  # noqa: BLE001 (an hour's other figures are not lost for one)
                    traceback.print_exc()
                    failed += contest.keys
        outcomes = killed.outcomes(cluster) if killed.KEY in asked.only else []
    text = report.table(results, where, asdict(asked.sizes))
    print(text)
    if asked.page is not None and not failed:
        report.write_into(asked.page, text)
    for table in filter(None, (peer_tables.figures(results), peer_tables.killed(outcomes))):
        print(f"\n{table}")
    if asked.json is not None:
        document = report.document(results, where)
        document |= {"sizes": asdict(asked.sizes), "killed": [outcome._asdict() for outcome in outcomes]}
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    if failed:
        sys.exit(f"not measured: {', '.join(sorted(failed))}")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    known = sorted({killed.KEY, *(key for contest in CONTESTS for key in contest.keys)})
    parser.add_argument("--only", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--repetitions", type=int, default=5, help="at most; what takes long is done less often")
    parser.add_argument("--scale", choices=SCALES, default="usual", help="how much of everything")
    parser.add_argument(
        "--full", dest="scale", action="store_const", const="full", help="--scale full: some hours, 12 GB of disk"
    )
    parser.add_argument("--sizes", default="", help="but so much of this: NAME=NUMBER,... (benchmarks/sizes.py)")
    parser.add_argument("--json", type=Path, help="write every repetition into this file, too")
    parser.add_argument("--page", type=Path, help="write the table into this page, too: docs/benchmarks.md")
    asked = parser.parse_args()
    asked.only = set(asked.only.split(","))
    if unknown := asked.only - set(known):
        parser.error(f"--only: no such figure: {', '.join(sorted(unknown))}")
    try:
        asked.sizes = SCALES[asked.scale].but(asked.sizes)
    except ValueError as error:
        parser.error(f"--sizes: {error}")
    return asked


@contextmanager
def _everything() -> Iterator[tuple[Rig, Bare, Peers]]:
    with rig() as cluster, bare(cluster) as plain, peers(cluster) as others:
        yield cluster, plain, others


def _run(contest: Contest, stage: Stage, others: Peers, repetitions: int) -> Result:
    print(f"{', '.join(sorted(contest.keys))} ...", file=sys.stderr)
    quantities = {its.quantity for its in contest.figures}
    everybody = [*contest.contestants(stage), *others.contestants(quantities)]
    often = min(repetitions, contest.most_repetitions)
    return take_turns(contest.figures, everybody, often, warm_ups=contest.warm_ups)


if __name__ == "__main__":
    main()
