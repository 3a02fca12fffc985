"""What a worker and a shim say to each other.

At the start: one LaunchSpec as a line of JSON on the shim's stdin, one line of JSON back on its stdout, either
`{"started": true, ...}` or `{"failed": stage, "errno": n, ...}`. After that, on the socket CONTROL_NAME in the spool
folder, a line of JSON for each request and one for each reply:

    {"do": "deadline", "boot_s": t}   the child may work until CLOCK_BOOTTIME is t
    {"do": "end", "why": w}           end it: "stopped" gracefully, "lease_lost" at once
    {"do": "interrupt"}               SIGINT to the child's process group
    {"do": "input", "number": n, "data": base64}
                                      feed its stdin, once for each number; "taken" in the reply says whether
    {"do": "close_input"}             the end of its stdin, after all that was taken
    {"do": "status"}
    {"do": "follow"}                  from here on an empty line either way: "tell me" there, "there is news" back

A shim may be of another version than the worker that talks to it: every reply carries its `protocol`. Inputs came
with 2. Before anything is asked, `shim.lock` says whether one can understand the other (`gsd_tasks.process.foreign`): a
line of JSON with `protocol` and `readers_since`. What never changes, so that any version can end an attempt that is
over: `shim.lock` is locked for as long as the shim lives, and has its `pid`, `started` and `boot_id`; and when the shim
is killed, its child's tree is gone, or found by the marker.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

PROTOCOL: Final = 2
INPUTS_SINCE: Final = 2
# The oldest protocol whose workers can go on with what a shim of this one has begun, by its socket, its spool and its
# exit record. One of protocol 1 would never end a Claude session's input.
READERS_SINCE: Final = 2
# The most that one input may hold; room for that as base64, and for the words around it.
MAX_INPUT_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = MAX_INPUT_BYTES * 4 // 3 + (16 << 10)
CONTROL_NAME: Final = "control.sock"
LOCK_NAME: Final = "shim.lock"
LOG_NAME: Final = "shim.log"

ID_VARIABLE: Final = "GSDTASKS_SESSION_ID"
ATTEMPT_VARIABLE: Final = "GSDTASKS_ATTEMPT"
MARKER_VARIABLE: Final = "GSDTASKS_MARKER"


class Containment(StrEnum):
    """How a child's tree is held together. PID_NAMESPACE: by the kernel; SUBREAPER: by looking through /proc."""

    PID_NAMESPACE = "pid_namespace"
    SUBREAPER = "subreaper"


class ProcessLimit(StrEnum):
    """What bounds a session's processes.

    NPROC: RLIMIT_NPROC in the user namespace's count; PID_MAX: the PID namespace's own; NONE: nothing of ours.
    """

    NPROC = "rlimit_nproc"
    PID_MAX = "pid_max"
    NONE = "none"


class LaunchSpec(NamedTuple):
    """What to run, and its bounds. Times are seconds; `deadline_boot_s` is a moment of CLOCK_BOOTTIME.

    `max_processes` is kept as the host can (`ProcessLimit`); 0 is no bound.

    `env` is the child's whole environment but for the three variables that the shim adds. `stdin` None is /dev/null.
    With `inputs`, a number, `stdin` stands for the inputs up to that one, and stays open for further ones.
    Its repr shows no environment, arguments or input: they hold secrets.
    """

    session_id: str
    attempt: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdin: bytes | None
    timeout_s: float
    idle_timeout_s: float
    max_output_bytes: int
    grace_s: float
    freeze_bound_s: float
    interrupt_first: bool
    containment: Containment
    deadline_boot_s: float
    max_processes: int = 0
    inputs: int | None = None

    def __repr__(self) -> str:
        return f"<LaunchSpec {self.session_id}:{self.attempt} {self.containment}>"

    @property
    def beginning(self) -> bytes | None:
        """What the child's stdin begins with; None: it is /dev/null."""
        return b"" if self.stdin is None and self.inputs is not None else self.stdin

    def child_env(self) -> dict[str, str]:
        """All that the child sees."""
        return {
            **self.env,
            ID_VARIABLE: self.session_id,
            ATTEMPT_VARIABLE: str(self.attempt),
            MARKER_VARIABLE: marker(self.session_id, self.attempt),
        }

    def encode(self) -> bytes:
        fields = self._asdict()
        fields["stdin"] = None if self.stdin is None else base64.b64encode(self.stdin).decode()
        fields["env"] = dict(self.env)
        return line(fields)

    @classmethod
    def decode(cls, document: bytes) -> LaunchSpec:
        """Raises ValueError, KeyError or TypeError for anything that `encode` did not make."""
        fields: dict[str, Any] = json.loads(document)
        fields["argv"] = tuple(fields["argv"])
        fields["stdin"] = None if fields["stdin"] is None else base64.b64decode(fields["stdin"])
        fields["containment"] = Containment(fields["containment"])
        return cls(**{name: fields[name] for name in cls._fields if name in fields})


def marker(session_id: str, attempt: int) -> str:
    """The value by which a child's descendants are known, wherever they went."""
    return f"{session_id}:{attempt}"


def line(message: Mapping[str, Any]) -> bytes:
    """One message of the protocol, as it is sent."""
    return json.dumps(message).encode() + b"\n"
