"""Every figure in one run: `make bench`, or `python -m benchmarks --only F1,F3 --repetitions 3`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from benchmarks.bare import Bare, bare
from benchmarks.figures import dispatching, enqueueing, latency, lines, memory
from benchmarks.measuring import Contestant, Figure, Result, take_turns
from benchmarks.rig import Rig, rig


class Contest(NamedTuple):
    """Figures that one run gives."""

    figures: Sequence[Figure]
    contestants: Callable[[Rig, Bare], Sequence[Contestant]]
    most_repetitions: int = 100

    @property
    def keys(self) -> set[str]:
        return {figure.key for figure in self.figures}


CONTESTS = (
    Contest(lines.FIGURES, lambda rig, _: lines.contestants(rig, 150_000)),
    Contest(latency.FIGURES, lambda rig, _: latency.contestants(rig, 10_000), most_repetitions=3),
    Contest(dispatching.FIGURES, lambda rig, bare: dispatching.contestants(rig, bare, 20, 150)),
    Contest(memory.FIGURES, lambda rig, _: memory.contestants(rig), most_repetitions=1),
    Contest(enqueueing.FIGURES, lambda rig, bare: enqueueing.contestants(rig, bare, 300, 10_000)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    known = sorted({key for contest in CONTESTS for key in contest.keys})
    parser.add_argument("--only", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every repetition into this file, too")
    asked = parser.parse_args()
    wanted = set(asked.only.split(","))
    with _everything() as (cluster, plain):
        where = report.machine(cluster.servers.database_url)
        results = [_run(contest, cluster, plain, asked.repetitions) for contest in CONTESTS if contest.keys & wanted]
    print(report.table(results, where))
    if asked.json is not None:
        asked.json.write_text(json.dumps(report.document(results, where), indent=1) + "\n")


@contextmanager
def _everything() -> Iterator[tuple[Rig, Bare]]:
    with rig() as cluster, bare(cluster) as plain:
        yield cluster, plain


def _run(contest: Contest, cluster: Rig, plain: Bare, repetitions: int) -> Result:
    print(f"{', '.join(sorted(contest.keys))} ...", file=sys.stderr)
    return take_turns(contest.figures, contest.contestants(cluster, plain), min(repetitions, contest.most_repetitions))


if __name__ == "__main__":
    main()
