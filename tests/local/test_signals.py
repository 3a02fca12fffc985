"""A signal, and who waits for something else beside it."""

from __future__ import annotations

import select
import signal

from gsd_tasks.local.signals import Wakeup, handled


def test_one_that_came_before_the_wait_began_ends_it() -> None:
    """Its handler has run by then; a wait for what handlers leave behind has missed it now and then."""
    former, heard = signal.getsignal(signal.SIGWINCH), []
    with handled({signal.SIGWINCH: lambda number, _frame: heard.append(number)}), Wakeup() as wakeup:
        assert not is_readable(wakeup)
        signal.raise_signal(signal.SIGWINCH)
        assert is_readable(wakeup)
        wakeup.drain()
        assert not is_readable(wakeup)
    assert heard == [signal.SIGWINCH]
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getsignal(signal.SIGWINCH) is former


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])
