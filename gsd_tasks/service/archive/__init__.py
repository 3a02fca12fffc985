"""The archive: what is kept of sessions that were removed, a compressed file for each."""

from gsd_tasks.service.archive.binding import bind, bind_long
from gsd_tasks.service.archive.shelf import Archive
from gsd_tasks.service.archive.volume import Volume

__all__ = ["Archive", "Volume", "bind", "bind_long"]
