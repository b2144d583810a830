"""Reading from S3 through boto3, whose one home this is; :mod:`cluster.storage.s3_writing` writes.

Credentials, region and endpoint come from where every AWS tool has them: the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on), ``~/.aws``, the machine's
role.
"""

import functools
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

from cluster.storage.s3_errors import TransientError, explain

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
