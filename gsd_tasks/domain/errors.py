"""Everything that gsd-tasks raises on purpose.

    GsdError
    ├── UsageError              the request itself is wrong: nothing was written
    │   ├── InvalidValue        one field of it has no valid value
    │   ├── NoSuchSession       an id, or the start of one, that no session has
    │   ├── NoSuchSnapshot      the same of a session's snapshots, and their names
    │   ├── AmbiguousId         the start of more than one session's id
    │   ├── KeyReused           an idempotency key that belongs to another session
    │   ├── NotAllowed          the session's state forbids it
    │   └── TooLarge            more than the API takes at once
    ├── AccessDenied            the API does not let the caller do it: nothing was done
    │   ├── Unauthenticated     no token, or one that is not, or no longer, good
    │   └── NotPermitted        the token lacks the scope
    ├── Unavailable             a server that is needed does not answer
    │   ├── DatabaseUnavailable
    │   ├── BrokerUnavailable
    │   ├── ApiUnavailable
    │   └── TooMany             this token has as much open as it may have
    ├── ConfigurationError      this installation cannot work as it is set up
    │   ├── SchemaMismatch      the database is newer or older than this code
    │   └── NewerFormat         a snapshot is newer than this code
    └── Fenced                  somebody else holds the session now: write nothing more

Each message says what is wrong and what to do, in one line. What an error is worth as an exit code is decided in one
place, `gsd_tasks.cli.exits`.
"""

from __future__ import annotations

from gsd_tasks.domain.credentials import ADVICE


class GsdError(Exception):
    """Root of the tree; never raised itself."""


class UsageError(GsdError):
    """The request is wrong as it stands; repeating it does not help."""


class InvalidValue(UsageError):
    """`field` was given a value that cannot be used."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NoSuchSession(UsageError):
    """No session has this id, or an id that starts so."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"no session {wanted!r}: see `gsd-tasks ps` for those there are")
        self.wanted = wanted


class NoSuchSnapshot(UsageError):
    """No snapshot of this session has this id or name, or an id that starts so."""

    def __init__(self, session_id: str, wanted: str) -> None:
        super().__init__(f"session {session_id} has no snapshot {wanted!r}: see `gsd-tasks snapshots {session_id}`")
        self.session_id = session_id
        self.wanted = wanted


class AmbiguousId(UsageError):
    """More than one id, of sessions or of a session's snapshots, starts so."""

    def __init__(self, prefix: str, candidates: tuple[str, ...]) -> None:
        super().__init__(f"{prefix!r} is the start of several ids ({', '.join(candidates)}): give more of it")
        self.prefix = prefix
        self.candidates = candidates


class KeyReused(UsageError):
    """The idempotency key was used before, for a session with another content."""

    def __init__(self, key: str, session_id: str) -> None:
        super().__init__(f"key {key!r} belongs to session {session_id}, which is not the same job: use another key")
        self.key = key
        self.session_id = session_id


class NotAllowed(UsageError):
    """The session's present state forbids what was asked."""

    def __init__(self, session_id: str, problem: str) -> None:
        super().__init__(f"session {session_id}: {problem}")
        self.session_id = session_id


class TooLarge(UsageError):
    """The API takes no request of this size; `limit_bytes` is the largest that it does."""

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than {limit_bytes} bytes: send less at once")
        self.what = what
        self.limit_bytes = limit_bytes


class AccessDenied(GsdError):
    """The API refuses the caller, whatever was asked."""


class Unauthenticated(AccessDenied):
    """The API was given no token, or one that is unknown, expired or revoked. It does not say which."""

    def __init__(self) -> None:
        super().__init__("the API needs a valid token: `gsd-tasks token create` makes one, GSD_API_TOKEN hands it over")


class NotPermitted(AccessDenied):
    """The token is good, but not for this."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"the token lacks the scope {scope!r}: use one that has it")
        self.scope = scope


class Unavailable(GsdError):
    """A server does not answer. Nothing says that the request was carried out, nor that it was not."""

    #: How long it asked to be left alone, if it did.
    retry_after_s: float | None = None


class DatabaseUnavailable(Unavailable):
    """Postgres cannot be reached or broke the connection off."""


class BrokerUnavailable(Unavailable):
    """Redis cannot be reached."""


class ApiUnavailable(Unavailable):
    """The API cannot be reached, or broke off, or something else answers at its address."""


class TooMany(Unavailable):
    """A bound of the API on what one token may have open at a time is reached: close some, or try later."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"this token has {limit} {what} open, as many as it may have: close some first")
        self.what = what
        self.limit = limit


class ConfigurationError(GsdError):
    """A setting is missing or contradicts another, or something that must be installed is not."""


class NoCredentials(ConfigurationError):
    """Claude cannot be talked to: whoever should run it has neither a key nor a token."""

    def __init__(self, who: str) -> None:
        super().__init__(f"{who}: {ADVICE}")


class SchemaMismatch(ConfigurationError):
    """The database's schema is not the one that this version of the code works with."""


class NewerFormat(ConfigurationError):
    """The snapshot was written by a newer version of this code."""

    def __init__(self, snapshot_id: str, written: int, known: int) -> None:
        super().__init__(
            f"snapshot {snapshot_id} has format {written}, and this version knows those up to {known}:"
            " upgrade gsd-tasks on this machine"
        )
        self.snapshot_id = snapshot_id
        self.format = written


class Fenced(GsdError):
    """The lease is no longer ours: another holder, attempt or state. Whoever sees this writes nothing more."""
