"""S3's error responses as the OSError that a local file would raise.

The messages hold no credentials: boto3's own may quote a request.
"""

from typing import Any


class TransientError(ConnectionError):
    """S3 was not reached, was too busy or failed by itself: the same may work a moment later."""


class UnsupportedError(ConnectionError):
    """This S3 does not know what it was asked for."""


_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchUpload"}
_DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"} | {
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_BUSY = {"BadDigest", "BandwidthLimitExceeded", "ConditionalRequestConflict", "IncompleteBody"} | {
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentChecksumMismatch",
}
"""Codes of S3's "Error responses" that say nothing of the request: its bytes were damaged on the
way, others wrote the object just then, or there were too many requests."""
_CHANGED = {"412", "PreconditionFailed"}


def code_of(response: dict[str, Any]) -> str:
    """The code of an error's response."""
    return str(response.get("Error", {}).get("Code", "unknown"))


def is_unmet_condition(response: dict[str, Any]) -> bool:
    """Whether a conditional request was refused by its condition: the object is another, or none.

    Where S3 cannot tell who was first it says 409, and that is to be asked again.
    """
    return code_of(response) in {*_CHANGED, "NoSuchKey"}


def explain(url: str, verb: str, response: dict[str, Any]) -> OSError:
    """The error for an answer of S3 that refuses to ``verb`` (read, write, ...) ``url``."""
    code = code_of(response)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _ABSENT:
        return FileNotFoundError(f"there is no {url}")
    if code in _DENIED:
        return PermissionError(f"S3 does not let these credentials {verb} {url} ({code})")
    if code == "RequestTimeTooSkewed":
        what = f"this machine's clock is too far from S3's to {verb} {url} ({code}). Set it."
        return ConnectionError(what)
    if code in _CHANGED:
        return ConnectionError(f"{url} changed while it was read")
    if status == 501:
        return UnsupportedError(f"this S3 cannot {verb} {url} as it is asked to ({code})")
    if code in _BUSY or status >= 500 or status == 429:
        return TransientError(f"S3 is too busy or failing to {verb} {url} ({code})")
    return ConnectionError(f"S3 did not {verb} {url} ({code})")
