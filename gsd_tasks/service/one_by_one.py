"""Asking what may hang: it holds up one of many threads, not all of them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class OneByOne:
    """Lets everybody through as long as it goes well; once it has failed, one at a time, until it goes well again.

    Whoever is not let through goes without. A single caller is always let through.
    """

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._has_failed = False

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Whether to try. What is raised within the block is a failure."""
        is_alone = self._has_failed
        if is_alone and not self._alone.acquire(blocking=False):
            yield False
            return
        try:
            yield True
        except BaseException:
            self._has_failed = True
            raise
        else:
            self._has_failed = False
        finally:
            if is_alone:
                self._alone.release()
