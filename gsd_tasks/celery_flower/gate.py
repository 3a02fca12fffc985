"""Who gets in, and what they may do. Nothing is answered before: not a picture, not a measure, not a missing page."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from gsd_tasks.domain.hosts import host_name, known_hosts

READING: Final = ("GET", "HEAD")
#: The page of tasks asks for its rows by POST.
READ_BY_POST: Final = "/tasks/datatable"
#: What may be done where `--read_only` is off. Whoever tells Celery alone to run, end or revoke a session tells the
#: wrong one: Postgres decides, and a session that a worker has been told to revoke would never run there again.
DOABLE: Final = ("/api/worker/shutdown/", "/api/worker/queue/")


class Refusal(NamedTuple):
    """An answer instead of the page."""

    status: HTTPStatus
    words: str


class Gate:
    """Looks at each request before anything else does.

    `credentials` are `user:password` texts. `hosts` are the names by which browsers may call, beside those of this
    machine.
    """

    def __init__(self, credentials: Iterable[str], hosts: Iterable[str], *, url_prefix: str = "") -> None:
        self._digests = [_digest(text.encode()) for text in credentials]
        self._hosts = known_hosts(hosts)
        self._prefix = f"/{url_prefix.strip('/')}" if url_prefix.strip("/") else ""

    def refusal(self, method: str, path: str, *, host: str, authorization: str, read_only: bool) -> Refusal | None:
        """Why this request gets no further; None: it does."""
        if (name := host_name(host)) not in self._hosts:
            words = f"{name!r} is none of Flower's names here: see GSD_FLOWER_HOSTS"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, words)
        if not self._knows(authorization):
            return Refusal(HTTPStatus.UNAUTHORIZED, "this needs a user and a password")
        return self._forbidden(method, path.removeprefix(self._prefix), read_only=read_only)

    def _knows(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = _digest(b64decode(encoded.strip(), validate=True))
        except (binascii.Error, ValueError):
            return False
        # All of them, however early one fits.
        return sum(hmac.compare_digest(given, known) for known in self._digests) > 0

    def _forbidden(self, method: str, path: str, *, read_only: bool) -> Refusal | None:
        if method in READING or (method == "POST" and path == READ_BY_POST):
            return None
        if not path.startswith(DOABLE):
            words = "Flower only shows sessions: use `gsd-tasks cancel`, `pause`, `retry` or `run`"
            return Refusal(HTTPStatus.FORBIDDEN, words)
        if read_only:
            return Refusal(HTTPStatus.FORBIDDEN, "Flower is read-only here: see --read_only")
        return None


def _digest(text: bytes) -> bytes:
    """Of equal length, whatever was given: how long a password is, the time that it takes does not tell."""
    return hashlib.sha256(text).digest()
