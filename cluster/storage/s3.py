"""Reading from S3 through boto3, whose one home this is; :mod:`cluster.storage.s3_writing` writes.

Credentials, region and endpoint come from where every AWS tool has them: the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on), ``~/.aws``, the machine's
role.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5},
    connect_timeout=10,  # seconds, both
    read_timeout=60,
    max_pool_connections=32,  # more than any one process has requests at a time
)
_PART = 2**23
"""Bytes of one request: a long file is read in several, since S3 closes a connection that idles."""

_NO_LOGIN = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)
_ON_THE_WAY = (HTTPClientError, FlexibleChecksumError, ResponseParserError, IncompleteReadError)
"""No answer, half of one, or one whose bytes are not those that S3 sent."""
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


class TransientError(ConnectionError):
    """S3 was not reached, was too busy or failed by itself: the same may work a moment later."""


class UnsupportedError(ConnectionError):
    """This S3 does not know what it was asked for."""


@dataclass(frozen=True)
class Look:
    """An object and when it was looked at, by S3's own clock."""

    data: bytes
    etag: str
    age: float
    """Seconds since it was written; both ends are S3's, which counts in whole seconds."""


@functools.cache
def client() -> Any:  # noqa: ANN401 (boto3 makes its classes when it runs)
    """This process's client.

    Raises:
        PermissionError: the AWS profile that is asked for does not exist.
        ConnectionError: the endpoint is not a URL.
    """
    try:
        return boto3.session.Session().client("s3", config=_CONFIG)
    except ProfileNotFound:
        raise PermissionError("there is no AWS profile of the name in AWS_PROFILE") from None
    except (BotoCoreError, ValueError) as error:
        # ValueError: the endpoint, which may hold a password, is no URL.
        what = f"S3 cannot be reached with this AWS configuration ({type(error).__name__})"
        raise ConnectionError(what) from None


def size(bucket: str, key: str) -> int:
    """Bytes of an object. Raises as :func:`read`."""
    with as_os_errors(bucket, key):
        return int(client().head_object(Bucket=bucket, Key=key)["ContentLength"])


def read(bucket: str, key: str, **conditions: str) -> bytes:
    """An object, whole, or what ``conditions`` (GetObject's ``Range``, ``IfMatch``) say of it.

    Raises:
        OSError: as :func:`as_os_errors` has it.
    """
    with as_os_errors(bucket, key):
        data: bytes = client().get_object(Bucket=bucket, Key=key, **conditions)["Body"].read()
    return data


def part_ranges(length: int) -> list[str]:
    """The ``Range`` of each request by which an object of ``length`` bytes is read in order."""
    return [f"bytes={start}-{start + _PART - 1}" for start in range(0, length, _PART)]


def read_chunks(bucket: str, key: str) -> Iterator[bytes]:
    """An object, a part at a time. Raises as :func:`read`, or because it changed meanwhile."""
    with as_os_errors(bucket, key):
        head = client().head_object(Bucket=bucket, Key=key)
    for part in part_ranges(head["ContentLength"]):
        yield read(bucket, key, Range=part, IfMatch=head["ETag"])


def look(bucket: str, key: str) -> Look | None:
    """An object with its age; None where there is none. Raises as :func:`read`."""
    try:
        with as_os_errors(bucket, key):
            found = client().get_object(Bucket=bucket, Key=key)
            data: bytes = found["Body"].read()
    except FileNotFoundError:
        return None
    headers = found["ResponseMetadata"]["HTTPHeaders"]
    now = parsedate_to_datetime(headers["date"])
    return Look(data, found["ETag"], (now - found["LastModified"]).total_seconds())


def list_keys(bucket: str, prefix: str) -> list[str]:
    """Sorted keys of every object whose key begins with ``prefix``. Raises as :func:`read`."""
    with as_os_errors(bucket, prefix, "list"):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


def check_bucket(bucket: str, prefix: str) -> None:
    """That there is a bucket, and that what begins with ``prefix`` may be listed.

    Raises:
        ConnectionError: there is no such bucket.
        OSError: as :func:`read`.
    """
    try:
        with as_os_errors(bucket, prefix, "list"):
            client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except FileNotFoundError:
        what = f"there is no bucket {bucket}. Make it, or correct the storage's URL."
        raise ConnectionError(what) from None


def clock_skew(bucket: str, prefix: str) -> float:
    """Seconds by which this machine's clock is ahead of S3's. Raises as :func:`read`."""
    with as_os_errors(bucket, prefix, "list"):
        found = client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    there = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    return time.time() - there.timestamp()


def list_folder(bucket: str, prefix: str) -> tuple[list[str], list[str]]:
    """Sorted names of the objects and the folders directly below ``prefix`` (empty, or ends in /).

    Raises:
        OSError: as :func:`read`.
    """
    files: list[str] = []
    folders: list[str] = []
    with as_os_errors(bucket, prefix, "list"):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            files += [each["Key"].removeprefix(prefix) for each in page.get("Contents", [])]
            found = (each["Prefix"] for each in page.get("CommonPrefixes", []))
            folders += [each.removeprefix(prefix).removesuffix("/") for each in found]
    # A key that ends in / is how consoles draw an empty folder.
    return sorted(filter(None, files)), sorted(filter(None, folders))


@contextmanager
def as_os_errors(bucket: str, key: str, verb: str = "read") -> Iterator[None]:
    """For what asks S3 to ``verb`` an object: whatever goes wrong is an OSError.

    Raises:
        TransientError: it may work a moment later.
        FileNotFoundError: there is no such object, or no such bucket.
        PermissionError: no credentials, or S3 does not accept them.
        ConnectionError: S3 refuses for another reason.
    """
    url = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        raise explain(url, verb, error.response) from None
    except _NO_LOGIN as error:
        what = f"there are no AWS credentials to {verb} {url} with ({type(error).__name__})"
        raise PermissionError(what) from None
    except (BotoCoreError, ResponseParserError) as error:
        place = urlsplit(client().meta.endpoint_url).hostname
        what = f"{place} did not {verb} {url} ({type(error).__name__})"
        kind = TransientError if isinstance(error, _ON_THE_WAY) else ConnectionError
        raise kind(what) from None


def code_of(response: dict[str, Any]) -> str:
    """The code of an error's response."""
    return str(response.get("Error", {}).get("Code", "unknown"))


def is_unmet_condition(response: dict[str, Any]) -> bool:
    """Whether a conditional request was refused by its condition: the object is another, or none.

    Where S3 cannot tell who was first it says 409, and that is to be asked again.
    """
    return code_of(response) in {*_CHANGED, "NoSuchKey"}


def explain(url: str, verb: str, response: dict[str, Any]) -> OSError:
    """The error for an answer of S3 that refuses to ``verb`` (read, write, ...) ``url``.

    The message holds no credentials: boto3's own may quote a request.
    """
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
