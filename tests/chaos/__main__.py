"""`python -m tests.chaos --seed N --faults M`: a cluster under attack. 0: every promise was kept; 1: one was not."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from tests.chaos import netns
from tests.chaos.disk import enter_namespace
from tests.chaos.report import render
from tests.chaos.run import Run
from tests.chaos.schedule import Kind


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    disk = enter_namespace("tests.chaos", arguments)
    no_cables = netns.why_not()
    if no_cables is None:
        netns.enter()
    elif set(options.only) == {Kind.CABLE_CUT}:
        _say(_describe(no_cables))
        return 2
    _forget_settings()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    root = Path(tempfile.mkdtemp(prefix="gsd-chaos-"))
    _say(f"{root}; {disk}; {_describe(no_cables)}")
    try:
        with Run(root, options.seed, _say, cables=no_cables is None) as run:
            try:
                outcome = run(options.faults, options.only)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough: the block is now being cleared up
                raise
            except Exception:
                run.keep = True  # what breaks the harness itself is worth a look
                _say(f"kept: {root}")
                raise
            run.keep = options.keep or not outcome.is_clean
    except KeyboardInterrupt:
        shutil.rmtree(root, ignore_errors=True)  # before the block began, too
        _say("interrupted: everything is ended and removed")
        return 130
    for line in render(outcome):
        _say(line)
    if run.keep:
        _say(f"kept: {root}")
    if not outcome.is_clean:
        _say(f"replay: make chaos SEED={options.seed} FAULTS={options.faults}")
    return 0 if outcome.is_clean else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="A cluster under attack.")
    parser.add_argument("--seed", type=int, default=1, help="which schedule of faults")
    parser.add_argument("--faults", type=int, default=100, help="how many of it; 0 for a calm run")
    parser.add_argument("--only", type=_kinds, default=(), metavar="KIND,...", help="of these kinds alone")
    parser.add_argument("--keep", action="store_true", help="keep folder and logs of a run without violations too")
    return parser.parse_args(arguments)


def _kinds(text: str) -> list[Kind]:
    """Kinds, or the start of them: `worker` stands for all that is done to workers."""
    chosen = [kind for kind in Kind for word in text.split(",") if kind.value.startswith(word)]
    if not chosen:
        raise argparse.ArgumentTypeError(f"{text}: there are {', '.join(Kind)}")
    return chosen


def _describe(no_cables: str | None) -> str:
    return "cables can be cut" if no_cables is None else f"no {Kind.CABLE_CUT}: {no_cables}"


def _forget_settings() -> None:
    """Nothing of the caller's cluster."""
    for name in list(os.environ):
        if name.startswith(("GSD_", "CELERY_")):
            del os.environ[name]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
