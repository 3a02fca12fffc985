"""Rows as events, written out by hand: a session may have tens of thousands a second, each of the same few fields."""

from __future__ import annotations

import base64
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

from gsd_tasks.domain.events import OUTPUT

if TYPE_CHECKING:
    from gsd_tasks.domain.session import OutputRow


def row_event(place: object, row: OutputRow) -> bytes:
    """The very bytes of `sse.event(OUTPUT, place, plain(row))`, for a quarter of its time. The row's time is in UTC."""
    data = "null" if row.data is None else encode_basestring_ascii(row.data)
    raw = "null" if row.raw is None else f'"{base64.b64encode(row.raw).decode()}"'
    return (
        f'id: {place}\nevent: {OUTPUT}\ndata: {{"session_id":"{row.session_id}","seq":{row.seq},"attempt":{row.attempt}'
        f',"stream":"{row.stream.value}","written_at":"{row.written_at.isoformat()}","data":{data},"raw":{raw}'
        f',"eol":{"true" if row.eol else "false"}}}\n\n'
    ).encode("ascii")
