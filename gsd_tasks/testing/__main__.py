"""`python -m gsd_tasks.testing`: the offline model as a process, for a demo or for tests in another language.

Prints the `export` lines of a claude child's variables, then serves until it is told to stop (INT or TERM), or until
`--for` seconds are over, so that a forgotten one goes away.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from gsd_tasks.testing.json_script import script_from_json
from gsd_tasks.testing.model import OfflineModel
from gsd_tasks.testing.request import Request
from gsd_tasks.testing.script import Script, Text, Turn


def main() -> None:
    """Serve; exit 0 when told to stop, 2 for a script that is none."""
    given = _arguments()
    try:
        script = _read(given.script) if given.script else _echo
    except (OSError, ValueError) as error:
        sys.exit(f"{given.script}: {error}")
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with OfflineModel(script, port=given.port) as model:
        for name, value in model.env.items():
            sys.stdout.write(f"export {name}={value}\n")
        sys.stdout.flush()
        if given.port_file:
            _write_whole(given.port_file, model.base_url.rpartition(":")[2])
        signal.sigtimedwait(signals, given.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gsd_tasks.testing", description="A scripted Messages API on loopback."
    )
    parser.add_argument("--script", type=Path, help="JSON file; without it every prompt is said back")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written there once it listens")
    parser.add_argument("--for", dest="seconds", type=float, default=86_400, help="seconds to live (default: a day)")
    return parser.parse_args()


def _read(path: Path) -> Script:
    return script_from_json(json.loads(path.read_text()))


def _echo(request: Request) -> Turn:
    return Text(f"You said: {request.last_prompt}")


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file sees all of it or nothing."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    main()
