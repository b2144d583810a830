"""What goes into a package, and what cannot."""

import pytest

from cluster.names import SourceError
from cluster.ray import package
from cluster.ray.package import Package, code_files


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "", "a\\b", "a\nb", "a\x00"]
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(SourceError):
        Package({name: b""})


def test_it_is_written_as_it_is_listed(tmp_path):
    packed = Package({"b/c.txt": b"two", "a.txt": b"one"})
    packed.write(tmp_path)
    assert (tmp_path / "b/c.txt").read_bytes() == b"two"
    listed = packed.to_dict()
    assert [each["name"] for each in listed["files"]] == ["a.txt", "b/c.txt"]
    assert listed["bytes"] == 6
    assert packed.digest == Package({"a.txt": b"one", "b/c.txt": b"two"}).digest
    assert packed.digest != Package({"a.txt": b"two", "b/c.txt": b"one"}).digest


def test_one_that_is_too_large_is_not_sent(monkeypatch):
    monkeypatch.setattr(package, "MOST_BYTES", 10)
    assert not list(Package({"a": b"0123456789"}).problems())
    [(what, hint)] = Package({"a": b"0", "b": b"0123456789"}).problems()
    assert "11" in what
    assert "'b'" in hint


def test_code_is_a_package_without_caches_hidden_files_and_links(tmp_path):
    root = tmp_path / "house"
    for name in ("__init__.py", "room/a.py", "room/data.json", "room/__pycache__/a.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".env").write_text("SECRET=1")
    (root / ".git").mkdir()
    (root / ".git/config").write_text("x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("hunter2")
    (root / "file.txt").symlink_to(tmp_path / "secret/key")
    (root / "folder").symlink_to(tmp_path / "secret")
    assert code_files(root) == {
        "house/__init__.py": b"__init__.py",
        "house/room/a.py": b"room/a.py",
        "house/room/data.json": b"room/data.json",
    }
