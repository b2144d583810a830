"""What every storage promises. Another kind is tested by one more case of ``storage``."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage, Storage, open_storage
from cluster.storage.committed import COMMITTED, DamagedError


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Iterator[Storage]:
    match request.param:
        case "local":
            yield open_storage(str(tmp_path / "st"))
        case "s3":
            request.getfixturevalue("bucket")
            yield open_storage("s3://voices/some/prefix")


@pytest.fixture
def later(storage, request) -> Callable[[], None]:
    """Lets an hour pass for whoever goes by the clock."""
    if isinstance(storage, LocalStorage):
        return lambda: None
    server = request.getfixturevalue("faulty_s3")
    return lambda: server.age(3600)


@pytest.fixture
def damage(storage, request) -> Callable[[str, bytes | None], None]:
    """Has the committed file of a name hold other bytes, or with None has it be gone."""

    def on_disk(name: str, data: bytes | None) -> None:
        (path,) = storage.root.rglob(name)
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)

    def in_bucket(name: str, data: bytes | None) -> None:
        (found,) = (each for each in bucket.objects.all() if each.key.endswith(f"/{name}"))
        if data is None:
            found.delete()
        else:
            bucket.put_object(Key=found.key, Body=data)

    if isinstance(storage, LocalStorage):
        return on_disk
    bucket = request.getfixturevalue("bucket")
    return in_bucket


def _borrow(storage: Storage, key: str) -> bytes:
    with storage.borrow(key) as place:
        return (place / "weights").read_bytes()


READS: dict[str, Callable[[Storage, str], bytes]] = {
    "fetch": lambda storage, key: (storage.fetch(key) / "weights").read_bytes(),
    "borrow": _borrow,
    "read_from": lambda storage, key: storage.read_from(key, "weights"),
}


def _commit(storage: Storage, key: str, weights: bytes) -> None:
    with storage.commit(key) as directory:
        (directory / "weights").write_bytes(weights)
        (directory / "state").write_bytes(b"{}")


class TestEveryStorage:
    def test_nothing_is_there_at_first(self, storage):
        assert storage.children("a") == []
        assert not storage.exists("a/b")
        assert not storage.is_committed("a/b")
        with pytest.raises(FileNotFoundError):
            storage.read("a/b")

    @pytest.mark.parametrize("data", [b"", b"\x00\xff" * 1000], ids=["empty", "bytes"])
    def test_what_is_written_is_read(self, storage, data):
        storage.write("a/b.bin", data)
        assert storage.read("a/b.bin") == data
        assert storage.exists("a/b.bin")

    def test_writing_replaces(self, storage):
        storage.write("a", b"longer than the next")
        storage.write("a", b"next")
        assert storage.read("a") == b"next"

    def test_a_folder_is_not_a_file(self, storage):
        storage.write("a/b", b"1")
        assert not storage.exists("a")

    def test_children_are_sorted_names(self, storage):
        for key in ("s/b/1", "s/a", "s/c/d/e", "other/x"):
            storage.write(key, b"")
        with storage.commit("s/aa"):
            pass
        assert storage.children("s") == ["a", "aa", "b", "c"]
        assert storage.children("s/a") == []
        assert "s" in storage.children("")

    def test_a_committed_directory_is_fetched_whole(self, storage):
        with storage.commit("t/e") as directory:
            (directory / "weights").write_bytes(b"123")
            (directory / "sub").mkdir()
            (directory / "sub" / "state").write_bytes(b"456")
            assert not storage.is_committed("t/e")
        assert storage.is_committed("t/e")
        fetched = storage.fetch("t/e")
        assert (fetched / "weights").read_bytes() == b"123"
        assert (fetched / "sub" / "state").read_bytes() == b"456"

    def test_a_committed_directory_is_borrowed_and_read_by_the_file(self, storage):
        with storage.commit("t/e") as directory:
            (directory / "weights").write_bytes(b"123")
            (directory / "sub").mkdir()
            (directory / "sub" / "state").write_bytes(b"")
        with storage.borrow("t/e") as place:
            assert (place / "weights").read_bytes() == b"123"
            assert (place / "sub" / "state").read_bytes() == b""
        assert storage.read_from("t/e", "weights") == b"123"
        assert storage.read_from("t/e", "sub/state") == b""
        for name in ("t/other", "t"):
            with pytest.raises(FileNotFoundError, match="never committed"), storage.borrow(name):
                pass
            with pytest.raises(FileNotFoundError, match="never committed"):
                storage.read_from(name, "weights")
        with pytest.raises(FileNotFoundError):
            storage.read_from("t/e", "other")

    def test_a_workspace_is_a_directory_here_that_stays(self, storage):
        place = storage.workspace("s/views")
        (place / "db").write_bytes(b"1")
        again = open_storage(storage.url).workspace("s/views")
        assert (again / "db").read_bytes() == b"1"

    def test_an_error_inside_commits_nothing(self, storage):
        with pytest.raises(KeyboardInterrupt):
            _commit_and_stop(storage, "t/e")
        assert not storage.is_committed("t/e")
        assert storage.children("t") == []
        with storage.commit("t/e") as directory:
            (directory / "other").touch()
        assert not (storage.fetch("t/e") / "weights").exists()

    def test_the_first_commit_of_a_key_stays(self, storage):
        for content in (b"first", b"second"):
            with storage.commit("t/e") as directory:
                (directory / "weights").write_bytes(content)
        assert (storage.fetch("t/e") / "weights").read_bytes() == b"first"
        assert storage.children("t") == ["e"]

    def test_what_is_being_committed_is_not_seen(self, storage):
        with storage.commit("t/e") as directory:
            (directory / "weights").touch()
            assert storage.children("t") == []
            assert not storage.exists("t/e/weights")
            with pytest.raises(FileNotFoundError, match="never committed"):
                storage.fetch("t/e")

    def test_of_two_at_once_one_wins_whole(self, storage):
        """Both are in the block when the first leaves it; each writes two files of its own."""
        both_inside, ended = threading.Barrier(8, timeout=60), []

        def commit(content: bytes) -> None:
            with storage.commit("t/e") as directory:
                (directory / "one").write_bytes(content)
                both_inside.wait()
                (directory / "two").write_bytes(content)
            ended.append(content)

        threads = [threading.Thread(target=commit, args=(bytes([n]),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == 8, "to come second is no error"
        fetched = storage.fetch("t/e")
        assert (fetched / "one").read_bytes() == (fetched / "two").read_bytes()
        assert storage.children("t") == ["e"]

    def test_one_at_a_time_is_inside(self, storage):
        """All want in at once; each looks, and the first who is in makes what the others find."""
        all_there, made, inside = threading.Barrier(8, timeout=60), [], []

        def build(name: int) -> None:
            mine = open_storage(storage.url)  # as another process would
            all_there.wait()
            with mine.exclusively("t/e"):
                inside.append(name)
                assert inside == [name]
                if not mine.is_committed("t/e"):
                    made.append(name)
                    with mine.commit("t/e") as directory:
                        (directory / "by").write_text(str(name))
                inside.remove(name)

        threads = [threading.Thread(target=build, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1, "nobody fails, and one builds"
        assert (storage.fetch("t/e") / "by").read_text() == str(made[0])
        assert storage.children("t") == ["e"]

    def test_another_key_is_not_waited_for(self, storage):
        with storage.exclusively("t/e"), storage.exclusively("t/f"), storage.exclusively("t"):
            pass

    def test_an_error_inside_lets_the_next_one_in(self, storage):
        with pytest.raises(KeyboardInterrupt), storage.exclusively("t/e"):
            _commit_and_stop(storage, "t/e")
        with storage.exclusively("t/e"):
            assert not storage.is_committed("t/e")

    def test_who_dies_inside_lets_the_next_one_in(self, storage, later):
        """And what it had written is gone, but not what others write."""
        program = (
            "import os, sys\n"
            "from cluster.storage.base import open_storage\n"
            "storage = open_storage(sys.argv[1])\n"
            "with storage.exclusively('t/e'), storage.commit('t/e') as directory:\n"
            "    (directory / 'half').touch()\n"
            "    print(directory, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with (
            storage.commit("t/e.f") as another,
            subprocess.Popen(
                [sys.executable, "-c", program, storage.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as builder,
        ):
            half_written = Path(builder.stdout.readline().strip())
            assert (half_written / "half").exists()
            builder.kill()
            builder.wait()
            later()
            with storage.exclusively("t/e"), storage.commit("t/e") as directory:
                assert not half_written.exists()
                assert another.exists()
                (directory / "whole").touch()
        assert (storage.fetch("t/e") / "whole").exists()
        assert storage.children("t") == ["e", "e.f"]

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "."])
    def test_keys_stay_inside(self, storage, key):
        for use in (storage.read, storage.exists, storage.is_committed):
            with pytest.raises(ValueError, match="a storage key is relative"):
                use(key)
        if key:  # an empty one lists all of the storage
            with pytest.raises(ValueError, match="a storage key is relative"):
                storage.children(key)
        with pytest.raises(ValueError, match="a storage key is relative"):
            storage.write(key, b"")
        for use in (storage.fetch, storage.workspace, lambda key: storage.read_from(key, "a")):
            with pytest.raises(ValueError, match="a storage key is relative"):
                use(key)
        with pytest.raises(ValueError, match="a storage key is relative"), storage.commit(key):
            pass
        with pytest.raises(ValueError, match="a storage key is relative"), storage.borrow(key):
            pass
        with pytest.raises(ValueError, match="a storage key is relative"), storage.exclusively(key):
            pass

    def test_what_is_checked_at_the_last_moment_can_forbid_it(self, storage):
        """When all the files are there, and before anybody can see them."""
        seen = []

        def refuse():
            seen.append(storage.is_committed("a"))
            raise RuntimeError("the lease is over")

        with pytest.raises(RuntimeError, match="is over"), storage.commit("a", refuse) as directory:
            (directory / "file").write_text("x")
        assert seen == [False]
        assert not storage.is_committed("a")
        with storage.commit("a", lambda: seen.append("again")) as directory:
            (directory / "file").write_text("y")
        assert seen == [False, "again"]
        assert (storage.fetch("a") / "file").read_text() == "y"

    @pytest.mark.parametrize("read", READS)
    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"weIghts", r"weights has other bytes than were committed \(SHA-256\)"),
            (b"wei", "weights has "),
            (None, "weights is missing"),
        ],
        ids=["flipped", "truncated", "missing"],
    )
    def test_what_is_damaged_is_set_aside_by_name(self, storage, damage, read, data, told):
        """It is told in words, nobody gets it, and it can be committed anew."""
        _commit(storage, "t/e", b"weights")
        damage("weights", data)
        with pytest.raises(DamagedError, match=rf"t/e is damaged: {told}") as caught:
            READS[read](storage, "t/e")
        aside = str(caught.value).rpartition("; it was set aside as ")[2].rpartition("/")[2]
        assert aside.startswith(".e.damaged-")
        for each in (storage, open_storage(storage.url)):
            assert not each.is_committed("t/e")
            assert each.children("t") == []
            with pytest.raises(FileNotFoundError, match="never committed"):
                READS[read](each, "t/e")
        if data is not None:
            assert storage.read(f"t/{aside}/weights") == data
        assert storage.read(f"t/{aside}/state") == b"{}"
        assert storage.exists(f"t/{aside}/{COMMITTED}")
        _commit(storage, "t/e", b"again")
        assert READS[read](storage, "t/e") == b"again"
        assert storage.children("t") == ["e"]

    def test_a_copy_of_a_committed_directory_can_be_committed(self, storage):
        _commit(storage, "t/e", b"weights")
        with storage.commit("t/copy") as directory:
            shutil.copytree(storage.fetch("t/e"), directory, dirs_exist_ok=True)
            (directory / COMMITTED).touch()
        assert (storage.fetch("t/copy") / "weights").read_bytes() == b"weights"

    def test_a_file_beside_the_damaged_one_is_read(self, storage, damage):
        _commit(storage, "t/e", b"weights")
        damage("weights", b"weIghts")
        assert storage.read_from("t/e", "state") == b"{}"
        assert storage.is_committed("t/e")

    @pytest.mark.parametrize("read", ["borrow", "read_from"])
    def test_who_knew_the_damaged_one_gets_what_was_committed_since(self, storage, damage, read):
        other, late = open_storage(storage.url), open_storage(storage.url)
        _commit(storage, "t/e", b"weights")
        for each in (other, late):
            assert READS[read](each, "t/e") == b"weights"
        damage("weights", b"weIghts")
        with pytest.raises(DamagedError):
            storage.read_from("t/e", "weights")
        _commit(other, "t/e", b"again")
        for each in (storage, other, late):
            assert READS[read](each, "t/e") == b"again"

    def test_what_cannot_be_read_is_set_aside_by_its_reader(self, storage):
        _commit(storage, "t/e", b"weights")
        error = storage.set_aside("t/e", "weights are not tensors")
        assert isinstance(error, DamagedError)
        assert "t/e is damaged: weights are not tensors; it was set aside as " in str(error)
        assert not storage.is_committed("t/e")
        assert "; another process set it aside" in str(storage.set_aside("t/e", "of no use"))

    def test_its_url_opens_the_same_place(self, storage):
        storage.write("a", b"1")
        assert open_storage(storage.url).read("a") == b"1"


def _commit_and_stop(storage: Storage, key: str) -> None:
    with storage.commit(key) as directory:
        (directory / "weights").write_bytes(b"123")
        raise KeyboardInterrupt


class TestLocal:
    """What depends on there being a file system, whose failures can be made."""

    @pytest.fixture
    def storage(self, tmp_path) -> LocalStorage:
        return LocalStorage(tmp_path / "st")

    @pytest.mark.parametrize("fails", ["fsync", "replace"])
    def test_a_write_that_fails_leaves_the_old(self, storage, monkeypatch, fails):
        """The disk fills up before the bytes are down, or the machine ends before the rename."""
        storage.write("a/b", b"old")

        def fail(*_: object) -> None:
            raise OSError("No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, fails, fail)
            patch.setattr("pathlib.Path.replace", fail if fails == "replace" else os.replace)
            with pytest.raises(OSError, match="No space"):
                storage.write("a/b", b"new")
        assert storage.read("a/b") == b"old"
        assert [path.name for path in (storage.root / "a").iterdir()] == ["b"]

    def test_the_marker_comes_after_every_file(self, storage, monkeypatch):
        """It is there before the rename and was not before the block had ended."""
        seen = []
        rename = type(storage.root).rename

        def watch(path, target):
            seen.append(sorted(child.name for child in path.iterdir()))
            return rename(path, target)

        monkeypatch.setattr(type(storage.root), "rename", watch)
        with storage.commit("t/e") as directory:
            (directory / "weights").touch()
            assert not (directory / COMMITTED).exists()
        assert seen == [[COMMITTED, "weights"]]

    def test_losing_at_the_last_moment_is_no_error(self, storage, monkeypatch):
        """Another process commits between the look and the rename."""
        rename = type(storage.root).rename

        def commit_first(path, target):
            target.mkdir()
            (target / COMMITTED).touch()
            return rename(path, target)

        monkeypatch.setattr(type(storage.root), "rename", commit_first)
        with storage.commit("t/e") as directory:
            (directory / "late").touch()
        assert [path.name for path in storage.fetch("t/e").iterdir()] == [COMMITTED]
        assert [path.name for path in (storage.root / "t").iterdir()] == ["e"]

    def test_a_rename_that_fails_otherwise_is_an_error(self, storage):
        storage.write("t/e", b"stands where the directory should go")
        with pytest.raises(OSError, match="Not a directory"), storage.commit("t/e"):
            pass
        assert not storage.is_committed("t/e")
        assert storage.read("t/e") == b"stands where the directory should go"

    def test_a_directory_without_marker_makes_way_and_is_kept(self, storage, caplog):
        storage.write("t/e/weights", b"of a copy that was cut off, say")
        _commit(storage, "t/e", b"whole")
        assert storage.read_from("t/e", "weights") == b"whole"
        (aside,) = (storage.root / "t").glob(".e.damaged-*")
        assert (aside / "weights").read_bytes() == b"of a copy that was cut off, say"
        assert f"t/e has files and no {COMMITTED}" in caplog.text
        assert str(aside) in caplog.text

    @pytest.mark.parametrize("read", READS)
    def test_what_an_earlier_version_committed_without_digests_is_read(self, storage, read):
        _commit(storage, "t/e", b"weights")
        marker = storage.root / "t/e" / COMMITTED
        marker.write_bytes(b"")
        assert storage.is_committed("t/e")
        assert READS[read](storage, "t/e") == b"weights"
        with pytest.raises(FileNotFoundError):
            storage.read_from("t/e", "other")

    @pytest.mark.parametrize("text", [b"{", b"\x00" * 9, b"[]", b"{}"])
    def test_a_damaged_marker_is_damage(self, storage, text):
        _commit(storage, "t/e", b"weights")
        (storage.root / "t/e" / COMMITTED).write_bytes(text)
        with pytest.raises(DamagedError, match=f"{COMMITTED} cannot be read"):
            storage.fetch("t/e")
        assert not storage.is_committed("t/e")

    def test_damage_that_cannot_be_set_aside_is_told(self, storage, monkeypatch):
        _commit(storage, "t/e", b"weights")
        (storage.root / "t/e/weights").write_bytes(b"weIghts")

        def refuse(*_: object) -> None:
            raise PermissionError("Permission denied")

        monkeypatch.setattr(type(storage.root), "rename", refuse)
        with pytest.raises(DamagedError, match="could not be set aside: Permission denied"):
            storage.fetch("t/e")

    def test_a_directory_without_marker_does_not_exist(self, storage):
        (storage.root / "t/e").mkdir(parents=True)
        (storage.root / "t/e/weights").touch()
        assert not storage.is_committed("t/e")
        with pytest.raises(FileNotFoundError, match="no COMMITTED in it"):
            storage.fetch("t/e")

    def test_what_a_killed_process_left_is_not_seen(self, storage):
        context = storage.commit("t/e")
        staging = context.__enter__()
        (staging / "weights").touch()
        assert any((storage.root / "t").iterdir())
        assert storage.children("t") == []
        with storage.commit("t/e") as directory:
            (directory / "weights").write_bytes(b"whole")
        assert (storage.fetch("t/e") / "weights").read_bytes() == b"whole"
        with pytest.raises(GeneratorExit):
            context.gen.throw(GeneratorExit)

    def test_opening_creates_nothing(self, tmp_path):
        assert open_storage(str(tmp_path / "st")).children("a") == []
        assert not (tmp_path / "st").exists()

    def test_a_relative_directory_stays_where_it_was(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        storage = open_storage("st")
        monkeypatch.chdir("/")
        storage.write("a", b"1")
        assert (tmp_path / "st" / "a").read_bytes() == b"1"

    def test_another_kind_of_storage(self):
        with pytest.raises(
            ValueError, match=r"must be a local directory or s3.* starts with gs://$"
        ):
            open_storage("gs://ann:very-secret@bucket")
