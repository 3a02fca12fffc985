"""Durations, sizes and moments, as people write and read them.

What cannot be read raises ValueError with a sentence that says what to write; the caller knows which field it was.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNIT_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(
    r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?", re.ASCII | re.IGNORECASE
)
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?i?b)?", re.ASCII | re.IGNORECASE)
# Longer ones are typing errors, and would leave what a datetime can hold.
_LONGEST_S: Final = 10 * 366 * 86400
_LARGEST_BYTES: Final = 2**60
_UNIT_BYTES: Final[dict[str, int]] = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_BINARY: Final = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def parse_duration(text: str) -> float:
    """Seconds. `90` and `1.5` are seconds; `45s`, `30m`, `1h30m` and `2d` say their units, the largest first.

    Raises:
        ValueError: anything else, and more than ten years.
    """
    written = text.strip()
    parts = _DURATION.fullmatch(written)
    if _SECONDS.fullmatch(written):
        seconds = float(written)
    elif written and parts:
        seconds = sum(float(parts[unit] or 0) * size for unit, size in _UNIT_S.items())
    else:
        raise ValueError(f"{text!r} is no duration: write 90 (seconds), 30m, 1h30m or 2d")
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is more than ten years")
    return seconds


def print_duration(seconds: float) -> str:
    """What `parse_duration` reads back as the same number, to the millisecond: `1h30m`, `2.5s`."""
    total_ms = round(seconds * 1000)
    whole, ms = divmod(total_ms, 1000)
    written = ""
    for unit in ("d", "h", "m"):
        count, whole = divmod(whole, _UNIT_S[unit])
        written += f"{count}{unit}" if count else ""
    if whole or ms or not written:
        written += f"{whole}.{ms:03d}".rstrip("0").rstrip(".") + "s"
    return written


def parse_size(text: str) -> int:
    """Bytes. `4096`, `512kB`, `10MB` (of 1000), `1GiB` (of 1024), whatever the case.

    Raises:
        ValueError: anything else. `10M` too: it may be either.
    """
    parts = _SIZE.fullmatch(text.strip())
    factor = _UNIT_BYTES.get((parts["unit"] or "b").lower()) if parts else None
    if parts is None or factor is None:
        raise ValueError(f"{text!r} is no size: write 4096 (bytes), 10MB or 1GiB")
    whole, _, fraction = parts["number"].partition(".")
    size = int(whole) * factor + round(float(f"0.{fraction or 0}") * factor)
    if size > _LARGEST_BYTES:
        raise ValueError(f"{text!r} is more than an exbibyte")
    return size


def print_size(size: int) -> str:
    """The exact size in the largest unit that divides it: `2GiB`, `1500B`."""
    for unit, factor in _BINARY:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def parse_past(text: str, now: datetime) -> datetime:
    """The moment that `text` means for `--since`: so long ago (`10m`), or an ISO 8601 date or time.

    Raises:
        ValueError: neither of them.
    """
    return _parse_moment(text, now, -1)


def parse_future(text: str, now: datetime) -> datetime:
    """The moment that `text` means for `--run-at` and `--expires`: from now on so long (`10m`), or ISO 8601.

    Raises:
        ValueError: neither of them.
    """
    return _parse_moment(text, now, +1)


def print_time(moment: datetime) -> str:
    """UTC to the millisecond, of one width: `2026-11-21T03:53:01.250Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_age(seconds: float) -> str:
    """Roughly how long, in two or three characters: `5s`, `12m`, `3h`, `9d`."""
    for unit, size, least in (("d", 86400, 2), ("h", 3600, 2), ("m", 60, 2)):
        if seconds >= size * least:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def print_took(seconds: float) -> str:
    """How long something took, as precise as is of use: `0.25s`, `12.3s`, `1h02m`."""
    if seconds < 60:
        return f"{max(0.0, seconds):.2f}s" if seconds < 9.995 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _parse_moment(text: str, now: datetime, direction: int) -> datetime:
    try:
        return now + direction * timedelta(seconds=parse_duration(text.strip().removeprefix("+")))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        # Without a zone it is what the person's clock on the wall says, on that day.
        return moment if moment.tzinfo else moment.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: write 10m, 1h30m or 2026-11-21T18:00") from None
