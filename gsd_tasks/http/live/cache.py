"""Pages that were read lately, of all that is followed, within one bound."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gsd_tasks.http.live.pages import Page

#: What a page takes besides its body, about.
OVERHEAD_BYTES: Final = 512


class Cache:
    """Keeps pages by what is followed and the position they begin at; the longest unused go first. For one thread.

    What is kept stays true: rows and transitions are only ever added.
    """

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._pages: OrderedDict[Hashable, Page[Any]] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the pages hold."""
        return self._bytes

    def get(self, key: Hashable) -> Page[Any] | None:
        """The page, if it is still there."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: Hashable, page: Page[Any]) -> None:
        """Keep it, for as long as there is room."""
        former = self._pages.pop(key, None)
        self._bytes += _size(page) - (0 if former is None else _size(former))
        self._pages[key] = page
        while self._bytes > self._largest_bytes:
            _, oldest = self._pages.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(page: Page[Any]) -> int:
    return len(page.body) + OVERHEAD_BYTES
