"""What the API's refusal of a request means, by what the CLI says of it when it has given up.

The CLI says it four times over, more exactly from version to version: its own word for the cause (`api_error`), a
coarse class (`error`), the HTTP status, and the type in the answer's body. Its sentence for people is read last, for
an old CLI, and where there was no answer at all. What each fault looks like was recorded with CLI 2.1
(`tests/acceptance/test_api_faults.py` does so again).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.policy import PATIENT
from gsd_tasks.domain.state import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.domain.claude_conversation import Conversation
    from gsd_tasks.domain.claude_results import ResultEvent

_BY_CAUSE: Final[Mapping[str, Reason]] = {
    **dict.fromkeys(
        (
            "connection_failed",
            "stream_idle_timeout",
            "no_response",
            "computer_slept",
            "network_edge_blocked",
            "tls_untrusted_ca",
            "tls_cert_signature_failure",
        ),
        Reason.UNREACHABLE,
    ),
    **dict.fromkeys(
        (
            "api_key_auth_disabled",
            "gateway_session_expired",
            "gateway_signin_required",
            "invalid_credential_header",
            "org_disabled_credential",
            "provider_credentials",
            "stored_login_refused",
        ),
        Reason.UNAUTHENTICATED,
    ),
    # Answered with the status of a rate limit, and no waiting helps.
    "long_context_credits_required": Reason.REFUSED,
    "model_requires_usage_credits": Reason.REFUSED,
    "usage_limit_reached": Reason.RATE_LIMITED,
}
_BY_CLASS: Final[Mapping[str, Reason]] = {
    **dict.fromkeys(
        (
            "account_on_hold",
            "authentication_failed",
            "cloud_credential_error",
            "oauth_org_not_allowed",
            "verification_required",
        ),
        Reason.UNAUTHENTICATED,
    ),
    "billing_error": Reason.REFUSED,
    "model_not_found": Reason.REFUSED,
    "overloaded": Reason.OVERLOADED,
    "rate_limit": Reason.RATE_LIMITED,
}
# An overloaded API is among the `server_error`s, and so is one that cannot be reached: what is more exact comes first.
_BY_VAGUE_CLASS: Final[Mapping[str, Reason]] = {
    "invalid_request": Reason.REFUSED,
    "server_error": Reason.API_FAILED,
}
_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: Reason.UNAUTHENTICATED,
    # Timeout, conflict: the CLI itself tries these again.
    408: Reason.API_FAILED,
    409: Reason.API_FAILED,
    429: Reason.RATE_LIMITED,
    529: Reason.OVERLOADED,
}
_BY_TYPE: Final[Mapping[str, Reason]] = {
    "api_error": Reason.API_FAILED,
    "authentication_error": Reason.UNAUTHENTICATED,
    "billing_error": Reason.REFUSED,
    "invalid_request_error": Reason.REFUSED,
    "not_found_error": Reason.REFUSED,
    "overloaded_error": Reason.OVERLOADED,
    "permission_error": Reason.REFUSED,
    "rate_limit_error": Reason.RATE_LIMITED,
    "request_too_large": Reason.REFUSED,
    "timeout_error": Reason.API_FAILED,
}
_BY_WORDS: Final = (
    (re.compile(r"\b(?:usage|\d-hour|weekly) limit\b"), Reason.RATE_LIMITED),
    (re.compile(r"/login\b|Invalid API key|OAuth token (?:has expired|revoked)|Failed to authenticate"),
     Reason.UNAUTHENTICATED),
    (re.compile(r"Credit balance is too low|Prompt is too long"), Reason.REFUSED),
    (re.compile(r"\bECONN\w+|\bENOTFOUND\b|\bETIMEDOUT\b|Connection error|Request timed out"), Reason.UNREACHABLE),
)  # fmt: skip
_STATUS: Final = re.compile(r"API Error: (?:Request rejected \()?([45]\d\d)\b")
# "Claude AI usage limit reached|1763730000"
_RESETS_AT: Final = re.compile(r"\|(\d{10})\b")
# The last second that a `datetime` can name.
_LATEST_S: Final = 253_402_300_799
_LONGEST_REST_MS: Final = 3_600_000


def failure_of(result: ResultEvent, error: str | None) -> Reason | None:
    """Which failure of the API ended this turn in an error, or None; `error` is the CLI's class of it."""
    if result.subtype != "success":
        # Its text is of another kind, and may quote anything.
        return None
    cause, kind = result.extras.get("api_error"), result.extras.get("api_error_type")
    return (
        _BY_CAUSE.get(str(cause))
        or _BY_CLASS.get(str(error))
        or _of_status(result.api_error_status)
        or _BY_TYPE.get(str(kind))
        or _BY_VAGUE_CLASS.get(str(error))
        or _of_words(result.text)
    )


def asks_again_at(conversation: Conversation, reason: Reason, ended_at: datetime) -> datetime | None:
    """From when on the API may answer again, as far as the CLI told it. None: that is not known, or no question.

    A limit of the account's plan says when it is lifted. Else it is as long after the end as the CLI itself rested
    last, by the API's `retry-after` or its own patience: to come back sooner is no use.
    """
    if reason not in PATIENT:
        return None
    if reason is Reason.RATE_LIMITED and (lifted := _lifted_at(conversation)) is not None:
        return lifted
    retry = conversation.retry
    return None if retry is None else ended_at + timedelta(milliseconds=min(max(retry.delay_ms, 0), _LONGEST_REST_MS))


def _lifted_at(conversation: Conversation) -> datetime | None:
    limit, result = conversation.rate_limit, conversation.result
    if limit is not None and limit.status == "rejected" and limit.resets_at is not None:
        return _moment(limit.resets_at)
    told = None if result is None else _RESETS_AT.search(result.text)
    return None if told is None else _moment(int(told[1]))


def _of_status(status: int | None) -> Reason | None:
    if status is None or status < 400:
        return None
    return _BY_STATUS.get(status) or (Reason.API_FAILED if status >= 500 else Reason.REFUSED)


def _of_words(text: str) -> Reason | None:
    if found := _STATUS.search(text):
        return _of_status(int(found[1]))
    return next((reason for words, reason in _BY_WORDS if words.search(text)), None)


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds <= _LATEST_S else None
