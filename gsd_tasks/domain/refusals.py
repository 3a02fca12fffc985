"""What to do about a server that is there, and lets nobody in: the words of libpq, OpenSSL and Redis, understood."""

from __future__ import annotations

from typing import Final, NamedTuple


class _Remedy(NamedTuple):
    words: tuple[str, ...]
    advice: str


#: In this order, as the first that fits is taken. What libpq says of another language's server is not understood.
_POSTGRES: Final = (
    _Remedy(
        ("certificate verify failed", "root certificate file"),
        "sslrootcert in GSD_DATABASE_URL must name a file with the certificate of the server's authority",
    ),
    _Remedy(
        ("does not match host name",),
        "GSD_DATABASE_URL must call the server by a name that its certificate has",
    ),
    _Remedy(
        ("requires a valid client certificate", "certificate authentication failed", "alert unknown ca"),
        "sslcert and sslkey in GSD_DATABASE_URL must name a certificate that the server takes, and its key",
    ),
    _Remedy(
        ("private key file", "certificate file", "could not load"), "look at sslcert and sslkey in GSD_DATABASE_URL"
    ),
    _Remedy(
        ("no encryption", "ssl off", "ssl required", "tls required"),
        "the server takes TLS alone: add ?sslmode=verify-full",
    ),
    _Remedy(("server does not support ssl",), "the server has no TLS: switch it on there, or leave sslmode out"),
    _Remedy(
        ("password authentication failed", "no password supplied", "sasl authentication failed", "no such user"),
        "look at user and password in GSD_DATABASE_URL",
    ),
)
_REDIS: Final = (
    _Remedy(
        ("hostname mismatch", "ip address mismatch", "not valid for"),
        "GSD_REDIS_URL must call the server by a name that its certificate has",
    ),
    _Remedy(
        ("key identifier", "not marked critical", "key usage extension", "alternative name extension"),
        "Python 3.13 and newer take only certificates that say all that RFC 5280 asks for: make this one anew",
    ),
    _Remedy(
        ("certificate verify failed",),
        "ssl_ca_certs in GSD_REDIS_URL must name a file with the certificate of the server's authority",
    ),
    _Remedy(
        ("certificate required", "alert unknown ca", "handshake failure"),
        "ssl_certfile and ssl_keyfile in GSD_REDIS_URL must name a certificate that the server takes, and its key",
    ),
    _Remedy(
        ("wrong version number", "record layer failure"), "the server has no TLS at this port: begin with redis://"
    ),
    _Remedy(
        ("wrongpass", "noauth", "authentication required", "invalid username-password", "invalid password"),
        "look at user and password in GSD_REDIS_URL (of Sentinels: sentinel_password)",
    ),
    _Remedy(
        ("noperm", "has no permissions", "no permissions to"),
        "the ACL of this user is too narrow: see docs/several-machines.md",
    ),
    _Remedy(("no master found",), "no Sentinel knows a master of this name that is up: look at master_name, and there"),
)


def of_postgres(said: str) -> str | None:
    """What to do, if this is a refusal that is known; None for a server that is merely away."""
    return _find(_POSTGRES, said)


def of_redis(said: str) -> str | None:
    """The same of Redis, and of Sentinels."""
    return _find(_REDIS, said)


def _find(remedies: tuple[_Remedy, ...], said: str) -> str | None:
    heard = said.lower()
    return next((advice for words, advice in remedies if any(word in heard for word in words)), None)
