"""What goes into the child's stdin."""

from __future__ import annotations

import os
import selectors
from collections import deque
from typing import Final

from gsd_tasks.process.shim.protocol import LaunchSpec

# What may wait for a child that does not read. Beyond it an input is refused: the shim is to stay small.
MAX_WAITING_BYTES: Final = 64 << 20


class Feed:
    """The child's stdin: what the spec begins it with, then the numbered inputs, as fast as the child reads them.

    Nothing here waits for the child, which may be busy, frozen or gone. Without numbered inputs the end of file comes
    after the beginning, else after `finish`.
    """

    def __init__(self, fd: int, spec: LaunchSpec, selector: selectors.BaseSelector) -> None:
        """`fd` is the pipe's end, to be closed here; negative where the child has no pipe as its stdin."""
        self.number = spec.inputs
        self._fd = fd
        self._selector = selector
        self._more = spec.inputs is not None
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        if fd >= 0:
            selector.register(fd, selectors.EVENT_WRITE, self._give)
        self._append(spec.beginning or b"")

    @property
    def is_open(self) -> bool:
        """Whether further inputs are taken, as long as there is room for them."""
        return self._more and self._fd >= 0

    def take(self, number: int, data: bytes) -> bool:
        """Whether it has been taken, be it before; one that is so is not fed again. Not whether the child has read it.

        A number may be left out, and is then taken for one that came: inputs are in order.
        """
        if self.number is None:
            return False
        if number <= self.number:
            return True
        if not self.is_open or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            return False
        self.number = number
        self._append(data)
        return True

    def finish(self) -> None:
        """No further inputs: the end of file, once everything that waits was given."""
        self._more = False
        self._go_on()

    def _append(self, data: bytes) -> None:
        if data:
            self._waiting.append(memoryview(data))
            self._waiting_bytes += len(data)
        self._go_on()

    def _go_on(self) -> None:
        if self._fd < 0:
            return
        if self._waiting:
            self._selector.modify(self._fd, selectors.EVENT_WRITE, self._give)
        elif self._more:
            # The writing end of a pipe is never readable: what this wakes us for is that nobody reads it any more.
            self._selector.modify(self._fd, selectors.EVENT_READ, self._close)
        else:
            self._close()

    def _give(self) -> None:
        """One write."""
        if self._fd < 0:  # closed by something else that happened in this turn
            return
        first = self._waiting[0]
        try:
            given = os.write(self._fd, first)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close()
            return
        self._waiting_bytes -= given
        if given < len(first):
            self._waiting[0] = first[given:]
        else:
            self._waiting.popleft()
            self._go_on()

    def _close(self) -> None:
        if self._fd >= 0:
            self._selector.unregister(self._fd)
            os.close(self._fd)
        self._fd = -1
        self._waiting.clear()
