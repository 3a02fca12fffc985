"""What `--json` prints: the values of `domain.session` by their own field names, which stay as they are."""

from __future__ import annotations

from gsd_tasks.domain.sanitize import visible_json
from gsd_tasks.wire.plain import plain


def print_json(value: object) -> None:
    """One document on one line, in ASCII: times as ISO 8601 in UTC, bytes as base64."""
    print(visible_json(plain(value)))
