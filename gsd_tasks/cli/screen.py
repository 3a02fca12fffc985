"""The operator's two streams. Nothing that a child wrote goes through here as it was: see `domain.sanitize`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from gsd_tasks.domain.sanitize import one_line, visible
from gsd_tasks.domain.session import Stream

_PREFIX: Final = "gsd-tasks: "


class Screen:
    """Writes a child's text to the stream it came from, and our own words to stderr, each of them on a line of its own.

    `lock` is held for one piece at a time; whoever holds it keeps the screen still.
    """

    # Longer than any write takes, unless nobody reads what is written: then nothing else may have to wait for it.
    _STILL_S: Final = 1.0

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.lock = threading.RLock()
        self._files = {Stream.STDOUT: out, Stream.STDERR: err}
        # Two streams that end on one screen share its line; two files do not.
        self._shared = out is err or (out.isatty() and err.isatty())
        self._unfinished: set[Stream] = set()

    def write(self, stream: Stream, text: str, *, eol: bool = True) -> None:
        """A piece of a line, made safe, and the line's end if it has come. Flushed: somebody is watching."""
        with self.lock:
            self._make_room(stream)
            file = self._files[stream]
            file.write(visible(text) + ("\n" if eol else ""))
            file.flush()
            (self._unfinished.discard if eol else self._unfinished.add)(stream)

    def say(self, words: str) -> None:
        """Our own words, on stderr."""
        with self.held():
            self._finish_line(Stream.STDERR)
            self._make_room(Stream.STDERR)
            file = self._files[Stream.STDERR]
            file.write(f"{_PREFIX}{one_line(words)}\n")
            file.flush()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep the screen still if that can be had soon; says whether it is."""
        held = self.lock.acquire(timeout=self._STILL_S)
        try:
            yield held
        finally:
            if held:
                self.lock.release()

    def _make_room(self, stream: Stream) -> None:
        for other in self._unfinished - {stream} if self._shared else ():
            self._finish_line(other)

    def _finish_line(self, stream: Stream) -> None:
        if stream in self._unfinished:
            self._files[stream].write("\n")
            self._files[stream].flush()
            self._unfinished.discard(stream)
