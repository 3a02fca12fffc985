"""Talking to a running shim: the worker's side. No shim can keep a caller longer than TIMEOUT_S.

ShimUnreachable
├── ShimGone      there is none any more: its child's tree is gone, or about to go
└── ShimSilent    there is one, which begins, hangs or waits for its disk: ask again, or `contain.kill_shim`
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

from gsd_tasks.process.contain import shim_is_alive
from gsd_tasks.process.shim.protocol import CONTROL_NAME, INPUTS_SINCE, MAX_INPUT_BYTES, line
from gsd_tasks.process.spool.exits import EndedBy

TIMEOUT_S: Final = 2.0
_RETRY_S: Final = 0.01
_RECEIVE_BYTES: Final = 16 * 1024


class ShimUnreachable(Exception):
    """The request was not answered; whether it was heard is not known."""


class ShimGone(ShimUnreachable):
    """No shim owns this spool any more. What stands in it, and the exit record, is all there will be."""


class ShimSilent(ShimUnreachable):
    """The shim did not answer in time. Nothing is known of its child."""


class ShimStatus(NamedTuple):
    """As the shim sees it. `ended`: the child has exited; the shim may still wait for what it left behind.

    The counts are of bytes in the spool. `child_pid` is 0 for a child that ended at once. `inputs` is the highest
    number of those taken; None: it takes none.
    """

    protocol: int
    child_pid: int
    frozen: bool
    ended: bool
    ended_by: EndedBy | None
    deadline_boot_s: float
    stdout_bytes: int
    stderr_bytes: int
    inputs: int | None = None
    input_open: bool = False


class ShimLink:
    """Requests to the shim of the spool in `folder`, each on a connection of its own: nothing to keep or to close.

    Every method raises ShimGone or ShimSilent. Safe for several threads.
    """

    def __init__(self, folder: Path, *, patience_s: float | None = None) -> None:
        self._folder = folder
        self._patience_s = TIMEOUT_S if patience_s is None else min(patience_s, TIMEOUT_S)
        self._protocol: int | None = None

    def set_deadline(self, boot_s: float) -> None:
        """The child may work until CLOCK_BOOTTIME is `boot_s`; it is thawed if that lies ahead, frozen if not."""
        self._request({"do": "deadline", "boot_s": boot_s})

    def end(self, why: Literal["stopped", "lease_lost"] = "stopped") -> None:
        """End the child: "stopped" in steps, "lease_lost" at once. Returns when the shim knows, not when it is done."""
        self._request({"do": "end", "why": why})

    def interrupt(self) -> None:
        """SIGINT to the child's process group, and no more than that."""
        self._request({"do": "interrupt"})

    def input(self, number: int, data: bytes) -> bool:
        """Feed `data`, the input with this number, to the child's stdin; whether it was taken, now or before.

        To be asked again when the answer is lost, and in order: a number below the highest counts as taken before, and
        so is never fed. False: the stdin has ended, or (`status().input_open`) too much is waiting to be read. What was
        taken need not be read: the child may end first. Raises ValueError for more than MAX_INPUT_BYTES.
        """
        if len(data) > MAX_INPUT_BYTES:
            raise ValueError(f"input {number} has {len(data)} bytes: at most {MAX_INPUT_BYTES} can be fed at once")
        if not self._takes_inputs():
            return False
        message = {"do": "input", "number": number, "data": base64.b64encode(data).decode()}
        return bool(self._request(message)["taken"])

    def close_input(self) -> None:
        """End the child's stdin, once everything that was taken is fed. It takes no further inputs."""
        if self._takes_inputs():
            self._request({"do": "close_input"})

    def status(self) -> ShimStatus:
        reply = self._request({"do": "status"})
        ended_by = reply["ended_by"]
        reply["ended_by"] = None if ended_by is None else EndedBy(ended_by)
        return ShimStatus(**{name: reply[name] for name in ShimStatus._fields if name in reply})

    def _takes_inputs(self) -> bool:
        """An older shim has ended the stdin after its beginning. A long line it would not even refuse."""
        if self._protocol is None:
            self.status()
        return self._protocol is not None and self._protocol >= INPUTS_SINCE

    def _request(self, message: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + self._patience_s
        with _connect(self._folder, self._patience_s) as connection:
            try:
                connection.sendall(line(message))
                reply = _receive_line(connection, until)
            except OSError as error:
                raise _unreachable(self._folder, error) from error
        self._protocol = reply["protocol"]
        if not reply["ok"]:
            # Not the whole message: an input may hold a secret.
            raise ValueError(f"the shim refuses {message['do']!r}: {reply['error']}")
        return reply


class News:
    """Tells when to look into the spool of `folder` again.

    Look first, then wait: a word means "look" and not what is new, and several may come as one. `wake` may be called
    from any thread, the rest from one; close it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._connection: socket.socket | None = None
        self._asked = False
        self._gone = False
        self._follow()

    @property
    def shim_gone(self) -> bool:
        """It has ended: what the spool holds by now, and the exit record, is all there will be."""
        return self._gone

    def wait(self, timeout_s: float) -> bool:
        """True as soon as there may be something new, the shim is gone, or `wake` was called; else False, in time."""
        self._ask()
        if self._gone:
            return True
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if self._connection is None:
            # It ends, or had too many to talk to: the one is seen, the other tried again, in a moment.
            timeout_s = min(timeout_s, _RETRY_S)
        else:
            poller.register(self._connection, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(0.0, timeout_s) * 1000)}
        if self._woken.fileno() in ready:
            self._woken.recv(_RECEIVE_BYTES)
        if self._connection is not None and self._connection.fileno() in ready:
            self._hear(self._connection)
        return bool(ready)

    def wake(self) -> None:
        """Make a `wait`, this one or the next, return True."""
        with contextlib.suppress(OSError):  # full of such words already, or closed
            self._waker.send(b"\n")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._woken.close()
        self._waker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _follow(self) -> None:
        try:
            self._connection = _connect(self._folder)
            self._connection.setblocking(False)
            self._say(line({"do": "follow"}))
        except ShimSilent:
            pass  # the next `wait` tries again
        except ShimGone:
            self._gone = True

    def _ask(self) -> None:
        """It tells once for each time it is asked, so that a busy child costs no word for every line."""
        if self._connection is None and not self._gone:
            self._follow()
        if self._connection is not None and not self._asked:
            self._asked = True
            self._say(b"\n")

    def _say(self, words: bytes) -> None:
        try:
            if self._connection is not None:
                self._connection.sendall(words)
        except OSError:
            self._lose(self._connection)

    def _hear(self, connection: socket.socket) -> None:
        try:
            words = connection.recv(_RECEIVE_BYTES)
        except OSError:
            words = b""
        if not words:
            self._lose(connection)
        elif b"\n\n" in b"\n" + words:  # an empty line is news; the line that answers "follow" is none
            self._asked = False

    def _lose(self, connection: socket.socket | None) -> None:
        """Its end is the shim's, unless that had too many to talk to: then the next `wait` tries again."""
        if connection is not None:
            connection.close()
        self._connection, self._asked = None, False
        self._gone = not shim_is_alive(self._folder)


def _connect(folder: Path, timeout_s: float | None = None) -> socket.socket:
    """A connection to the shim of `folder`. Raises ShimGone, ShimSilent."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S if timeout_s is None else timeout_s)
    try:
        within = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's path may have 107 bytes: this one is short, wherever the folder is.
            connection.connect(f"/proc/self/fd/{within}/{CONTROL_NAME}")
        finally:
            os.close(within)
    except OSError as error:
        connection.close()
        raise _unreachable(folder, error) from error
    return connection


def _unreachable(folder: Path, error: OSError) -> ShimUnreachable:
    """Whether there is a shim is told by its lock, not by its socket: one that begins has no socket yet."""
    kind = ShimSilent if shim_is_alive(folder) else ShimGone
    return kind(f"{folder}: {error.strerror or error}")


def _receive_line(connection: socket.socket, until: float) -> dict[str, Any]:
    heard = b""
    while not heard.endswith(b"\n"):
        connection.settimeout(max(0.001, until - time.monotonic()))
        more = connection.recv(_RECEIVE_BYTES)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        heard += more
    reply: dict[str, Any] = json.loads(heard)
    return reply
