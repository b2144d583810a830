"""A storage in S3: objects under a prefix of a bucket, and copies of what is read from them here.

A directory is committed in two steps: each file goes to a key that only this attempt has, and then
one marker, written only if there is none yet, says whose files the directory consists of. So
several may try at once, each may be cut off anywhere, and no reader sees but one, whole.
"""

import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster.names import SourceError, split_s3
from cluster.storage import local_copies, s3, s3_writing
from cluster.storage.committed import (
    COMMITTED,
    Check,
    Committed,
    DamagedError,
    check_key,
    other_bytes,
)
from cluster.storage.leases import Lease, LeaseTerms, leased
from cluster.storage.patience import Patience
from cluster.storage.s3 import TransientError

Result = TypeVar("Result")
_log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Files fetched at a time."""
_PREFIX = re.compile(r"^[A-Za-z0-9!_.*'()/-]*$")
"""The characters that S3's "Naming Amazon S3 objects" calls safe."""
_READS_OF_A_FILE = 3
"""Of one whose bytes are not those that were committed: they may have been damaged on the way."""


class S3Storage:
    """A prefix of a bucket. Opening it asks nothing of S3."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        terms: LeaseTerms = LeaseTerms(),  # noqa: B008 (frozen)
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience, self._terms = patience, terms
        self._committed: dict[str, Committed] = {}
        """By key, what is known to be committed. It changes only where it was found damaged."""
        self._leases: dict[str, Lease] = {}
        self._read_whole: set[Path] = set()
        """Copies whose every byte this process has seen to be right."""
        self._is_checked = False

    @classmethod
    def at(cls, url: str) -> "S3Storage":
        """The storage at ``s3://bucket/prefix``.

        Raises:
            ValueError: there can be none; what may be a secret is not shown.
        """
        try:
            bucket, prefix = split_s3(url)
        except SourceError as error:
            raise ValueError(f"storage {error}") from None
        prefix = prefix.rstrip("/")
        if not _PREFIX.match(prefix):
            # It is not shown either: it may be the signature of a signed URL.
            raise ValueError(
                f"storage must be s3://{bucket}/ and a prefix of letters, digits and !-_.*'()/, "
                "and the prefix has other characters"
            )
        if prefix:
            check_key(prefix)
        return cls(bucket, prefix)

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        return self._ask(partial(s3.read, self._bucket, self._full(key)))

    def write(self, key: str, data: bytes) -> None:
        self._ask(partial(s3_writing.put, self._bucket, self._full(key), data))

    def exists(self, key: str) -> bool:
        where = self._full(key)
        try:
            self._ask(partial(s3.size, self._bucket, where))
        except FileNotFoundError:
            return False
        return True

    def children(self, key: str) -> list[str]:
        folder = f"{self._full(key)}/" if key else self._prefix
        files, folders = self._ask(partial(s3.list_folder, self._bucket, folder))
        return sorted(name for name in {*files, *folders} if not name.startswith("."))

    @contextmanager
    def commit(self, key: str, check: Check | None = None) -> Iterator[Path]:
        self._full(key)
        self._committed.pop(key, None)  # another process may have set it aside
        with local_copies.filling(self._local("filling")) as directory:
            yield directory
            if not self.is_committed(key):
                self._publish(directory, key, check)
            elif check is not None:
                check()

    @contextmanager
    def exclusively(self, key: str) -> Iterator[None]:
        lock = self._beside(key, "lock")
        self._check_conditions()
        with leased(self._bucket, lock, self._patience, self._terms) as lease:
            self._leases[key] = lease
            try:
                yield
            finally:
                del self._leases[key]

    def is_committed(self, key: str) -> bool:
        return self._find(key) is not None

    def read_from(self, key: str, name: str) -> bytes:
        def read(found: Committed) -> bytes:
            if name not in found.files:
                raise FileNotFoundError(f"there is no {name} in {self.url}/{key}")
            where = self._file(key, found, name)
            with _missing_is_damage(name):
                for _ in range(_READS_OF_A_FILE):
                    data = self._ask(partial(s3.read, self._bucket, where))
                    if found.files[name].holds(data):
                        return data
            raise DamagedError(other_bytes(name))

        return self._reading(key, read)

    def fetch(self, key: str) -> Path:
        def fetch(found: Committed) -> Path:
            place = self._local("copies", *key.split("/"), found.attempt)
            self._download(key, found, place)
            return place

        return self._reading(key, fetch)

    @contextmanager
    def borrow(self, key: str) -> Iterator[Path]:
        with local_copies.filling(self._local("filling")) as place:
            self._reading(key, lambda found: self._download(key, found, place))
            yield place

    def set_aside(self, key: str, what: str) -> DamagedError:
        return DamagedError.of(f"{self.url}/{key}", what, lambda: self._move_aside(key))

    def workspace(self, key: str) -> Path:
        place = self._local("workspace", *check_key(key).split("/"))
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return place

    def _reading(self, key: str, read: Callable[[Committed], Result]) -> Result:
        """What ``read`` makes of what is committed at ``key``.

        Raises:
            FileNotFoundError: there is nothing.
            DamagedError: a file is not as it was committed; all of it was set aside.
        """
        found = self._get(key)
        while True:
            try:
                return read(found)
            except DamagedError as error:
                # Another process may have set it aside, and somebody have committed it anew.
                del self._committed[key]
                found, before = self._get(key), found
                if found == before:
                    raise self.set_aside(key, str(error)) from None

    def _move_aside(self, key: str) -> str:
        found = self._get(key)
        aside = self._beside(key, f"damaged-{found.attempt[:8]}")
        marker = f"{self._full(key)}/{COMMITTED}"
        files = {self._file(key, found, name): f"{aside}/{name}" for name in found.files}
        for source, target in {**files, marker: f"{aside}/{COMMITTED}"}.items():
            with suppress(FileNotFoundError):
                self._ask(partial(s3_writing.copy, self._bucket, source, target))
        self._ask(partial(s3_writing.delete, self._bucket, [marker]))
        del self._committed[key]
        self._tidy(key, lambda attempt: attempt == found.attempt)
        return f"s3://{self._bucket}/{aside}"

    def _publish(self, directory: Path, key: str, check: Check | None) -> None:
        """Write the files and then the marker, unless somebody is quicker: then drop the files."""
        self._check_conditions()
        lease = self._leases.get(key)
        made = Committed.of(directory, uuid.uuid4().hex, lease.number if lease else None)
        try:
            self._upload(directory, key, made)
            if lease is not None:
                lease.confirm()
            if check is not None:
                check()
        except Exception as error:
            # No marker was tried, so nobody can mean these files.
            self._tidy(key, lambda attempt: attempt == made.attempt)
            if isinstance(error, OSError) and self.is_committed(key):
                return
            raise
        marker, data = f"{self._full(key)}/{COMMITTED}", made.to_json()
        self._ask(partial(s3_writing.put_if, self._bucket, marker, data, None))
        # Not what S3 answered: one answer may be lost, and the next then says that somebody was
        # first, who was this very call. What stands there now stands for ever.
        winner = self._get(key)
        self._tidy(key, lambda attempt: attempt != winner.attempt)

    def _upload(self, directory: Path, key: str, made: Committed) -> None:
        left = {self._file(key, made, name): directory / name for name in made.files}

        def upload() -> None:
            for done in s3_writing.upload(self._bucket, dict(left)):
                del left[done]

        self._ask(upload)

    def _tidy(self, key: str, is_over: Callable[[str], bool]) -> None:
        """Delete files of attempts that no marker can name any more; what fails is left lying."""
        start = self._beside(key, "")
        attempts = re.compile(re.escape(start) + r"([0-9a-f]{32})/")

        def of_these(name: str) -> bool:
            found = attempts.match(name)
            return found is not None and is_over(found[1])

        try:
            for name, upload in s3_writing.uploads_under(self._bucket, start):
                if of_these(name):
                    s3_writing.abort_upload(self._bucket, name, upload)
            s3_writing.delete(
                self._bucket, list(filter(of_these, s3.list_keys(self._bucket, start)))
            )
        except OSError as error:
            _log.warning("files that nobody needs were not deleted: %s", error)

    def _download(self, key: str, found: Committed, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as threads:
            # A list, so that what one raised is raised here.
            list(threads.map(lambda name: self._fetch_file(key, found, name, place), found.files))

    def _fetch_file(self, key: str, found: Committed, name: str, place: Path) -> None:
        path, content = place / name, found.files[name]
        if local_copies.is_whole(path, content, to_the_byte=path not in self._read_whole):
            self._read_whole.add(path)
            return
        where = self._file(key, found, name)
        for reads_left in reversed(range(_READS_OF_A_FILE)):
            parts = (
                self._ask(partial(s3.read, self._bucket, where, Range=part))
                for part in s3.part_ranges(content.size)
            )
            try:
                with _missing_is_damage(name):
                    local_copies.keep(path, content, parts)
                break
            except DamagedError:
                if not reads_left:
                    raise
        self._read_whole.add(path)

    def _find(self, key: str) -> Committed | None:
        if key not in self._committed:
            try:
                text = self.read(f"{key}/{COMMITTED}")
            except FileNotFoundError:
                return None
            self._committed[key] = Committed.from_json(text)
        return self._committed[key]

    def _get(self, key: str) -> Committed:
        found = self._find(key)
        if found is None:
            raise FileNotFoundError(f"{self.url}/{key} was never committed (no {COMMITTED} in it)")
        return found

    def _ask(self, action: Callable[[], Result]) -> Result:
        """Have S3 do what ``action`` asks, and wait where it is gone for a while."""
        if not self._is_checked:
            # Or everything would be told not to be there, and made anew.
            look = partial(s3.check_bucket, self._bucket, self._prefix)
            self._patience.keep_trying(look, TransientError)
            self._is_checked = True
        return self._patience.keep_trying(action, TransientError)

    def _check_conditions(self) -> None:
        self._ask(partial(s3_writing.check_conditions, self._bucket, self._prefix))

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _beside(self, key: str, ending: str) -> str:
        """The hidden name beside ``key`` with this ending."""
        folder, _, name = self._full(key).rpartition("/")
        return f"{folder}/.{name}.{ending}" if folder else f".{name}.{ending}"

    def _file(self, key: str, found: Committed, name: str) -> str:
        return f"{self._beside(key, found.attempt)}/{name}"

    def _local(self, *parts: str) -> Path:
        mark = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return local_copies.cache_folder().joinpath(f"{self._bucket}-{mark}", *parts)


@contextmanager
def _missing_is_damage(name: str) -> Iterator[None]:
    """For reading a file that a marker names."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedError(f"{name} is missing") from None
