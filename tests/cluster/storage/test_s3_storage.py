"""A storage in S3 when S3 fails: every verb with every fault, on the wire."""

import errno
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import boto3
import pytest
from botocore.config import Config

from cluster.storage import local_copies, s3, s3_writing
from cluster.storage.base import Storage, open_storage
from cluster.storage.committed import COMMITTED, Committed, Content
from cluster.storage.leases import LeaseTerms
from cluster.storage.patience import Patience
from cluster.storage.s3 import TransientError
from cluster.storage.s3_storage import S3Storage
from tests.faulty_s3 import Fault, FaultyS3

SECRETS = ("very-secret", "AKIATESTING")
LONG = bytes(9 * 2**20)
"""More than goes in one request: boto3 cuts at 8 MiB."""


@pytest.fixture(scope="module")
def hasty_client(s3_server):
    """A client that does not try again by itself, so that each fault comes through to ours."""
    return boto3.client(
        "s3",
        endpoint_url=s3_server,
        region_name="us-east-1",
        aws_access_key_id=SECRETS[1],
        aws_secret_access_key=SECRETS[0],
        config=s3._CONFIG.merge(Config(retries={"total_max_attempts": 1})),
    )


@pytest.fixture
def server(bucket, faulty_s3, hasty_client, monkeypatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr(s3, "client", lambda: hasty_client)
    yield faulty_s3
    faulty_s3.gate.on_request = None


@pytest.fixture
def storage(server) -> S3Storage:
    """With a file and a committed directory, unknown to it as yet."""
    made = another()
    made.write("a/file", b"12345678")
    commit(made, "t/there", b"weights")
    return another()


def another() -> S3Storage:
    """The same place, as another process has it, which gives up after some 5 tries."""
    return S3Storage("voices", "p", Patience(0.02, first_pause=0.001, longest_pause=0.004))


def commit(storage: Storage, key: str, content: bytes) -> None:
    with storage.commit(key) as directory:
        (directory / "weights").write_bytes(content)
        (directory / "sub").mkdir()
        (directory / "sub" / "state").write_bytes(content)


def borrow(storage: Storage) -> bytes:
    with storage.borrow("t/there") as place:
        return (place / "weights").read_bytes()


def alone(storage: Storage) -> bool:
    with storage.exclusively("t/new"):
        return True


def make(storage: Storage) -> bytes:
    commit(storage, "t/new", b"new")
    assert another().children("t") == ["new", "there"]
    return another().read_from("t/new", "weights")


@dataclass(frozen=True)
class Verb:
    do: Callable[[Storage], object]
    gives: object
    requests: str
    """Of them, those that go wrong."""
    kinds: tuple[str, ...] = field(default=("busy", "failing", "cut", "answer lost"))


_BODY = ("busy", "failing", "cut", "torn", "altered")
VERBS = {
    "read": Verb(lambda s: s.read("a/file"), b"12345678", "GET .*/a/file", (*_BODY[:4],)),
    "write": Verb(lambda s: s.write("a/file", b"1"), None, "PUT .*/a/file"),
    "exists": Verb(lambda s: s.exists("a/file"), True, "HEAD .*/a/file"),
    "children": Verb(lambda s: s.children("a"), ["file"], "GET .*delimiter="),
    "is_committed": Verb(lambda s: s.is_committed("t/there"), True, f"GET .*/{COMMITTED}"),
    "read_from": Verb(lambda s: s.read_from("t/there", "weights"), b"weights", "weights", _BODY),
    "fetch": Verb(lambda s: len(list(s.fetch("t/there").iterdir())), 2, "GET .*weights", _BODY),
    "borrow": Verb(borrow, b"weights", "GET .*weights", _BODY),
    "commit: a file": Verb(make, b"new", "PUT .*weights"),
    "commit: the marker": Verb(make, b"new", f"PUT .*t/new/{COMMITTED}"),
    "exclusively: take": Verb(alone, True, r"(GET|PUT) .*\.new\.lock"),
    "first look": Verb(lambda s: s.exists("a/file"), True, "max-keys=1"),
}
ONCE = [
    pytest.param(verb, kind, id=f"{name}-{kind}")
    for name, verb in VERBS.items()
    for kind in verb.kinds
]
FOR_GOOD = [case for case in ONCE if case.values[1] in {"busy", "cut", "altered"}]


@pytest.mark.parametrize("verb", [pytest.param(v, id=n) for n, v in VERBS.items()])
def test_works(storage, verb):
    assert verb.do(storage) == verb.gives


@pytest.mark.parametrize(("verb", "kind"), ONCE)
def test_fails_once_and_then_works(storage, server, verb, kind):
    fault = Fault(kind, verb.requests, times=1)
    with server.failing(fault):
        assert verb.do(storage) == verb.gives
    assert fault.met == 1


@pytest.mark.parametrize(("verb", "kind"), FOR_GOOD)
def test_fails_for_good(storage, server, verb, kind):
    fault = Fault(kind, verb.requests)
    with server.failing(fault), pytest.raises(ConnectionError) as caught:
        verb.do(storage)
    assert fault.met > 1, "it was tried again"
    if kind != "altered":
        assert isinstance(caught.value, TransientError)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert another().children("t") in (["there"], ["new", "there"])


@pytest.mark.parametrize("verb", [pytest.param(v, id=n) for n, v in VERBS.items()])
def test_what_is_forbidden_is_not_tried_again(storage, server, verb):
    fault = Fault("denied", verb.requests)
    with (
        server.failing(fault),
        pytest.raises(PermissionError, match="does not let these") as caught,
    ):
        verb.do(storage)
    assert fault.met == 1
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_throttling_is_first_met_by_boto3s_own_retries(bucket, faulty_s3):
    fault = Fault("busy", "PUT .*/a", times=1)
    with faulty_s3.failing(fault):
        S3Storage("voices", patience=Patience(0)).write("a", b"1")
    assert fault.met == 1


class TestCommits:
    def test_a_commit_that_fails_leaves_nothing(self, storage, server, bucket):
        with server.failing(Fault("denied", "PUT .*weights")), pytest.raises(PermissionError):
            make(storage)
        assert not [each.key for each in bucket.objects.all() if ".new." in each.key]

    def test_a_long_file_whose_upload_is_torn_leaves_no_parts(self, storage, server, bucket):
        fault = Fault("cut", "partNumber=2")
        with server.failing(fault), pytest.raises(TransientError):
            commit(storage, "t/new", LONG)
        assert fault.met
        assert not storage.is_committed("t/new")
        assert not list(bucket.multipart_uploads.all())
        commit(storage, "t/new", LONG)
        assert (storage.fetch("t/new") / "weights").read_bytes() == LONG

    def test_what_the_killed_left_goes_with_the_next_commit(self, storage, bucket):
        left = f"p/t/.new.{'0' * 32}"
        bucket.put_object(Key=f"{left}/weights", Body=b"half")
        bucket.put_object(Key=f"p/t/.new.er.{'0' * 32}/weights", Body=b"of another key")
        bucket.Object(f"{left}/long").initiate_multipart_upload()
        assert storage.children("t") == ["there"]
        assert make(storage) == b"new"
        assert not list(bucket.multipart_uploads.all())
        keys = [each.key for each in bucket.objects.all()]
        assert not any(left in key for key in keys)
        assert any(".new.er." in key for key in keys)

    def test_somebody_is_first_at_the_last_moment(self, storage, server, bucket):
        """Another process commits when this one's marker is already on its way."""
        other = another()

        def overtake(request: str) -> None:
            if request.startswith("PUT") and COMMITTED in request:
                server.gate.on_request = None
                commit(other, "t/new", b"first")

        server.gate.on_request = overtake
        commit(storage, "t/new", b"second")
        assert server.gate.on_request is None
        place = storage.fetch("t/new")
        assert {p.read_bytes() for p in (place / "weights", place / "sub/state")} == {b"first"}
        assert sum(".new." in each.key for each in bucket.objects.all()) == 2

    def test_an_attempt_whose_marker_may_stand_keeps_its_files(self, storage, server):
        """All answers to the marker are lost: nobody here can know that it was written."""
        with (
            server.failing(Fault("answer lost", f"PUT .*{COMMITTED}")),
            pytest.raises(TransientError),
        ):
            make(storage)
        assert another().read_from("t/new", "weights") == b"new"

    @pytest.mark.parametrize("kind", ["unknown", "ignored"])
    def test_an_s3_without_conditions_is_refused(self, storage, server, bucket, kind):
        with server.failing(Fault(kind, "PUT .*voxsweep-probe")):
            # The fixture has asked already, as the first who wrote.
            s3_writing.check_conditions.cache_clear()
            with pytest.raises(ConnectionError, match=r"must honour conditional writes"):
                make(storage)
        assert not [each.key for each in bucket.objects.all() if "new" in each.key]

    def test_without_a_bucket_nothing_is_taken_to_be_missing(self, server):
        for use in (lambda s: s.exists("a"), lambda s: s.children("a"), lambda s: s.read("a")):
            with pytest.raises(ConnectionError, match="there is no bucket no-such"):
                use(S3Storage("no-such"))


class TestLeases:
    def test_a_ghost_commits_nothing(self, storage, server):
        """It was silent for too long, and wakes up after another one has taken over."""
        ghost, heir = storage, another()
        with ghost.exclusively("t/new"):
            server.age(61)
            with heir.exclusively("t/new"):
                with pytest.raises(ConnectionError, match="another process has taken over"):
                    commit(ghost, "t/new", b"ghost")
                assert not heir.is_committed("t/new")
                commit(heir, "t/new", b"heir")
        assert another().read_from("t/new", "weights") == b"heir"
        with another().exclusively("t/new"):
            pass

    def test_a_ghost_that_is_at_its_marker_comes_second(self, storage, server):
        """It had just made sure of its lease when its machine stood still."""
        heir = another()

        def take_over(request: str) -> None:
            if request.startswith("PUT") and COMMITTED in request:
                server.gate.on_request = None
                server.age(61)
                with heir.exclusively("t/new"):
                    commit(heir, "t/new", b"heir")

        with storage.exclusively("t/new"):
            server.gate.on_request = take_over
            commit(storage, "t/new", b"ghost")
        assert another().read_from("t/new", "sub/state") == b"heir"

    def test_who_is_alive_is_not_overtaken(self, server):
        """A holder's renewals make its lease young again; who waits looks at it, and waits."""
        quick = LeaseTerms(term=60, renewal=0.01, first_poll=0.01, last_poll=0.01)
        holder, waiter = (S3Storage("voices", "p", Patience(5), quick) for _ in range(2))
        renewed, looked, entered = (threading.Event() for _ in range(3))
        renewals: list[str] = []

        def watch(request: str) -> None:
            if ".new.lock" in request and request.startswith("PUT"):
                renewals.append(request)
                if len(renewals) > 3:
                    renewed.set()
            if ".new.lock" in request and request.startswith("GET"):
                looked.set()

        def wait() -> None:
            with waiter.exclusively("t/new"):
                entered.set()

        with holder.exclusively("t/new"):
            server.age(59)
            server.gate.on_request = watch
            assert renewed.wait(60)
            server.age(30)
            thread = threading.Thread(target=wait)
            thread.start()
            assert looked.wait(60)
            commit(holder, "t/new", b"holder")
            assert not entered.is_set()
        thread.join(60)
        assert entered.is_set()

    def test_a_holder_outlasts_an_outage_that_nobody_used(self, storage, server):
        with storage.exclusively("t/new"):
            server.age(3600)
            commit(storage, "t/new", b"1")
        assert storage.is_committed("t/new")


class TestCopies:
    def test_a_copy_is_fetched_once_for_all_processes_of_a_node(self, storage, server):
        server.gate.requests.clear()
        threads = [threading.Thread(target=another().fetch, args=("t/there",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Each asks whether the bucket and the marker are there; then two files, whoever gets them.
        assert server.gate.requests == {"LIST": 4, "GET": 4 + 2}

    @pytest.mark.parametrize("damage", [b"wEights", b"half", b""])
    def test_a_damaged_copy_is_fetched_again(self, storage, damage):
        path = storage.fetch("t/there") / "weights"
        path.write_bytes(damage)
        assert (another().fetch("t/there") / "weights").read_bytes() == b"weights"

    @pytest.mark.parametrize(
        "use",
        [
            lambda storage, key: storage.fetch(key),
            lambda storage, key: storage.read_from(key, "weights"),
        ],
    )
    def test_damage_at_rest_is_found(self, storage, bucket, tmp_path, use):
        (key,) = (each.key for each in bucket.objects.all() if each.key.endswith("weights"))
        bucket.put_object(Key=key, Body=b"wEights")
        with pytest.raises(ConnectionError, match="weights has other bytes than were commit"):
            use(storage, "t/there")
        assert not list((tmp_path / "cache").rglob("*weights*"))

    def test_a_full_disk_is_told_and_leaves_nothing(self, storage, monkeypatch, tmp_path):
        class Full(io.BytesIO):
            def write(self, _data: object) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        def full(path):
            with opened(path) as file:
                file.close()
                yield Full()

        opened = local_copies._alone_with
        with monkeypatch.context() as patch:
            patch.setattr(local_copies, "_alone_with", contextmanager(full))
            with pytest.raises(OSError, match=r"no space is left .* VOXSWEEP_CACHE") as caught:
                storage.fetch("t/there")
        assert caught.value.errno == errno.ENOSPC
        assert not [p for p in (tmp_path / "cache").rglob("*weights*") if p.is_file()]
        assert (storage.fetch("t/there") / "weights").read_bytes() == b"weights"

    def test_what_was_borrowed_is_gone(self, storage, tmp_path):
        borrow(storage)
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]

    def test_a_marker_cannot_name_a_file_elsewhere(self, storage, bucket):
        marker = Committed("0" * 32, None, {"../x": Content(0, "")}).to_json()
        bucket.put_object(Key=f"p/t/evil/{COMMITTED}", Body=marker)
        with pytest.raises(ValueError, match="a storage key is relative"):
            storage.fetch("t/evil")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIATESTING:very-secret@voices/a",
        "s3://voices/a?X-Amz-Signature=very-secret",
        "s3://",
        "s3://voices/a/../b",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_secrets(url):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (each says something else)
        open_storage(url)
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "url", ["s3://voices", "s3://voices/", "s3://voices/a/b", "s3://voices/a/"]
)
def test_a_url_is_that_of_its_place(url):
    assert open_storage(url).url == url.rstrip("/")
