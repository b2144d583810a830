"""Writing to S3: whole objects, on a condition where it matters, long files in parts."""

import functools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from botocore.exceptions import ClientError
from s3transfer.manager import TransferManager

from cluster.storage import s3
from cluster.storage.s3 import UnsupportedError, as_os_errors, explain, is_unmet_condition

_PROBE = ".voxsweep-probe"
_MOST_DELETED = 1000
"""Objects a request, by S3's DeleteObjects."""


def put(bucket: str, key: str, data: bytes) -> None:
    """Write an object, replacing what was there.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    with as_os_errors(bucket, key, "write"):
        s3.client().put_object(Bucket=bucket, Key=key, Body=data)


def put_if(bucket: str, key: str, data: bytes, etag: str | None) -> str | None:
    """Write an object only if it is the one with this ETag, or with None only if there is none.

    Gives the new ETag; None where the condition does not hold. A caller that is refused may have
    been the writer itself: an answer may be lost, and its request is sent again.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    with as_os_errors(bucket, key, "write"):
        try:
            done = s3.client().put_object(Bucket=bucket, Key=key, Body=data, **condition)
        except ClientError as error:
            if not is_unmet_condition(error.response):
                raise
            return None
    return str(done["ETag"])


def copy(bucket: str, source: str, target: str) -> None:
    """Copy an object of at most 5 GB within the bucket.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    with as_os_errors(bucket, source, "copy"):
        s3.client().copy_object(
            Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": source}
        )


def upload(bucket: str, files: Mapping[str, Path]) -> Iterator[str]:
    """Write files under their keys, several at a time; yields each key once it is written.

    A long file goes in parts, and S3 compares the checksum of each. Where one fails the others are
    given up, and no part is left behind.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it, or a file cannot be read.
    """
    with TransferManager(s3.client()) as transfers:
        sent = {key: transfers.upload(str(path), bucket, key) for key, path in files.items()}
        for key, transfer in sent.items():
            with as_os_errors(bucket, key, "write"):
                transfer.result()
            yield key


def delete(bucket: str, keys: Sequence[str]) -> None:
    """Delete objects; those that are gone already are no error.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    for start in range(0, len(keys), _MOST_DELETED):
        some = [{"Key": key} for key in keys[start : start + _MOST_DELETED]]
        with as_os_errors(bucket, keys[start], "delete"):
            done = s3.client().delete_objects(
                Bucket=bucket, Delete={"Objects": some, "Quiet": True}
            )
        for refused in done.get("Errors", [])[:1]:
            raise explain(f"s3://{bucket}/{refused['Key']}", "delete", {"Error": refused})


def uploads_under(bucket: str, prefix: str) -> list[tuple[str, str]]:
    """Key and id of each upload in parts, begun and not ended, of a key that begins so.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    with as_os_errors(bucket, prefix, "list"):
        pages = s3.client().get_paginator("list_multipart_uploads")
        found = pages.paginate(Bucket=bucket, Prefix=prefix)
        return [(u["Key"], u["UploadId"]) for page in found for u in page.get("Uploads", [])]


def abort_upload(bucket: str, key: str, upload_id: str) -> None:
    """End an upload in parts and drop its parts, which S3 would keep, and charge for, for ever.

    Raises:
        OSError: as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    with as_os_errors(bucket, key, "write"):
        s3.client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


@functools.cache
def check_conditions(bucket: str, prefix: str) -> None:
    """That S3 honours ``If-None-Match``, which every commit relies on; asked once a process.

    Some that speak S3's language do not know it, and write all the same.

    Raises:
        OSError: it does not, or as :func:`cluster.storage.s3.as_os_errors` has it.
    """
    key = prefix + _PROBE
    what = json.dumps({"see": "docs/storage.md", "asked": uuid.uuid4().hex}).encode()
    try:
        # The first of all finds nothing there, and must ask again.
        honoured = any(put_if(bucket, key, what, None) is None for _ in range(2))
    except UnsupportedError:
        honoured = False
    if not honoured:
        raise UnsupportedError(
            f"s3://{bucket}/{prefix} must honour conditional writes (If-None-Match), and does not: "
            "two writers could mix their files. Use AWS S3, a server that has them, or a local "
            "directory."
        )
