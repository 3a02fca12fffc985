"""The live tail: thousands follow, and share one read per session and wake-up."""

from gsd_tasks.http.live.live_tail import LiveTail
from gsd_tasks.http.live.stream import Abortable, LiveStream

__all__ = ["Abortable", "LiveStream", "LiveTail"]
