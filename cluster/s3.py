"""Reading from S3 through boto3, whose one home this is.

Credentials, region and endpoint come from where every AWS tool has them: the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on), ``~/.aws``, the machine's
role. What goes wrong is raised as the OSError that a file would give, in words that hold no
credentials: never boto3's own message, which may quote a request.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5},
    connect_timeout=10,  # seconds, both
    read_timeout=60,
)
_PART = 2**23
"""Bytes of one request: a long file is read in several, since S3 closes a connection that idles."""

_ABSENT = {"404", "NoSuchKey", "NoSuchBucket"}
_DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"} | {
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_NO_LOGIN = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)


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
    with _in_plain_words(bucket, key):
        return int(client().head_object(Bucket=bucket, Key=key)["ContentLength"])


def read(bucket: str, key: str) -> bytes:
    """An object, whole.

    Raises:
        FileNotFoundError: there is none, or no such bucket.
        PermissionError: no credentials, or S3 does not accept them.
        ConnectionError: S3 cannot be reached, or fails.
    """
    with _in_plain_words(bucket, key):
        data: bytes = client().get_object(Bucket=bucket, Key=key)["Body"].read()
    return data


def read_chunks(bucket: str, key: str) -> Iterator[bytes]:
    """An object, a part at a time. Raises as :func:`read`, or because it changed meanwhile."""
    with _in_plain_words(bucket, key):
        head = client().head_object(Bucket=bucket, Key=key)
    for start in range(0, head["ContentLength"], _PART):
        with _in_plain_words(bucket, key):
            part = client().get_object(
                Bucket=bucket,
                Key=key,
                IfMatch=head["ETag"],
                Range=f"bytes={start}-{start + _PART - 1}",
            )
            chunk: bytes = part["Body"].read()
        yield chunk


def list_folder(bucket: str, prefix: str) -> tuple[list[str], list[str]]:
    """Sorted names of the objects and the folders directly below ``prefix`` (empty, or ends in /).

    Raises:
        OSError: as :func:`read`.
    """
    files: list[str] = []
    folders: list[str] = []
    with _in_plain_words(bucket, prefix):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            files += [each["Key"].removeprefix(prefix) for each in page.get("Contents", [])]
            found = (each["Prefix"] for each in page.get("CommonPrefixes", []))
            folders += [each.removeprefix(prefix).removesuffix("/") for each in found]
    # A key that ends in / is how consoles draw an empty folder.
    return sorted(filter(None, files)), sorted(filter(None, folders))


@contextmanager
def _in_plain_words(bucket: str, key: str) -> Iterator[None]:
    url = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        raise _explain(url, str(error.response.get("Error", {}).get("Code", "unknown"))) from None
    except _NO_LOGIN as error:
        what = f"there are no AWS credentials to read {url} with ({type(error).__name__})"
        raise PermissionError(what) from None
    except BotoCoreError as error:
        place = urlsplit(client().meta.endpoint_url).hostname
        what = f"{place} did not give {url} ({type(error).__name__})"
        raise ConnectionError(what) from None


def _explain(url: str, code: str) -> OSError:
    if code in _ABSENT:
        return FileNotFoundError(f"there is no {url}")
    if code in _DENIED:
        return PermissionError(f"S3 does not let these credentials read {url} ({code})")
    if code in {"412", "PreconditionFailed"}:
        return ConnectionError(f"{url} changed while it was read")
    return ConnectionError(f"S3 did not give {url} ({code})")
