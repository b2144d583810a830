"""Names become locations below a root or are refused; locations are read within bounds."""

import copy
import os

import pytest

from cluster.names import shown
from cluster.sources.reading import (
    SourceError,
    check_file,
    is_folder,
    list_folder,
    open_binary,
    open_root,
    read_lines,
)


def rule_of(call, *arguments) -> str:
    with pytest.raises(SourceError) as caught:
        call(*arguments)
    assert caught.value.what
    assert caught.value.next_step
    return caught.value.rule


class TestLocal:
    def test_a_name_becomes_a_path_without_links(self, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a").write_bytes(b"1")
        (tmp_path / "b").symlink_to("sub/a")
        root = open_root(str(tmp_path))
        for name in ("sub/a", "b", "sub/../b", str(tmp_path / "b")):
            assert root.locate(name) == str(tmp_path / "sub" / "a")

    def test_names_start_at_the_list_and_may_go_where_the_root_reaches(self, tmp_path):
        (tmp_path / "lists").mkdir()
        (tmp_path / "a").touch()
        wide = open_root(str(tmp_path / "lists"), str(tmp_path))
        assert wide.locate("../a") == str(tmp_path / "a")
        assert rule_of(open_root(str(tmp_path / "lists")).locate, "../a") == "outside-root"
        assert rule_of(wide.locate, "../../a") == "outside-root"

    def test_a_root_may_be_reached_through_a_link(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a").touch()
        (tmp_path / "link").symlink_to("real")
        root = open_root(str(tmp_path / "link"))
        for name in ("a", str(tmp_path / "link" / "a"), str(tmp_path / "real" / "a")):
            assert root.locate(name) == str(tmp_path / "real" / "a")

    def test_a_root_is_a_folder_that_exists(self, tmp_path):
        (tmp_path / "a").touch()
        for bad in ("a", "gone"):
            assert rule_of(open_root, str(tmp_path / bad)) == "missing"
            assert rule_of(open_root, str(tmp_path), str(tmp_path / bad)) == "missing"

    def test_a_root_and_its_list_are_in_one_place(self, tmp_path):
        assert rule_of(open_root, str(tmp_path), "s3://voices/a") == "outside-root"
        assert rule_of(open_root, "s3://voices/a", str(tmp_path)) == "outside-root"
        assert rule_of(open_root, "https://voices/a") == "url"

    def test_what_is_no_file_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "link").symlink_to("fifo")
        for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
            assert rule_of(open_binary, str(path), 10) == "not-a-file"
        assert rule_of(check_file, str(tmp_path / "link")) == "not-a-file"

    def test_a_location_has_no_link_at_its_end(self, tmp_path):
        (tmp_path / "a").touch()
        (tmp_path / "b").symlink_to("a")
        assert rule_of(open_binary, str(tmp_path / "b"), 10) == "link-loop"
        check_file(str(tmp_path / "b"))

    def test_a_file_is_read_up_to_its_limit(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12345")
        with open_binary(str(tmp_path / "a"), 5) as file:
            assert file.read() == b"12345"
        assert rule_of(open_binary, str(tmp_path / "a"), 4) == "too-large"
        assert rule_of(open_binary, str(tmp_path / "gone"), 4) == "missing"
        assert rule_of(open_binary, "https://example.org/a", 4) == "url"

    def test_a_folder_is_listed_without_what_is_hidden(self, tmp_path):
        for name in ("b", "a", ".hidden"):
            (tmp_path / name).touch()
            (tmp_path / f"{name}-folder").mkdir()
        (tmp_path / "c").symlink_to("a-folder")
        (tmp_path / "d").symlink_to("a")
        assert list_folder(str(tmp_path)) == (
            ["a", "b", "d"],
            ["a-folder", "b-folder"],
            ["c"],
        )
        assert rule_of(list_folder, str(tmp_path / "gone")) == "missing"


class TestS3:
    def test_a_name_becomes_a_url(self):
        root = open_root("s3://voices/ann/lists", "s3://voices/ann")
        assert root.locate("a.wav") == "s3://voices/ann/lists/a.wav"
        assert root.locate("s3://voices/ann/a.wav") == "s3://voices/ann/a.wav"
        assert open_root("s3://voices").locate("x/a.wav") == "s3://voices/x/a.wav"

    @pytest.mark.parametrize(
        ("name", "rule"),
        [
            ("../a.wav", "outside-root"),
            ("sub/../a.wav", "outside-root"),
            ("./a.wav", "outside-root"),
            ("/etc/passwd", "outside-root"),
            ("s3://voices/annie/a.wav", "outside-root"),
            ("s3://voices/ann/../eve/a.wav", "outside-root"),
            ("s3://other/ann/a.wav", "outside-root"),
            ("s3://user:secret@voices/a.wav", "bad-name"),
            ("file:///etc/passwd", "url"),
            ("a" * 1100, "name-too-long"),
            ("a\\b.wav", "backslash"),
            ("a\0b.wav", "bad-name"),
        ],
    )
    def test_a_name_that_leads_elsewhere_is_refused(self, name, rule):
        root = open_root("s3://voices/ann")
        with pytest.raises(SourceError) as caught:
            root.locate(name)
        assert caught.value.rule == rule
        assert "secret" not in str(caught.value)

    def test_an_object_is_read_up_to_its_limit(self, bucket):
        bucket.put_object(Key="a", Body=b"12345")
        with open_binary("s3://voices/a", 5) as file:
            assert file.read() == b"12345"
        assert rule_of(open_binary, "s3://voices/a", 4) == "too-large"
        assert rule_of(open_binary, "s3://voices/gone", 4) == "missing"
        assert rule_of(check_file, "s3://voices/gone") == "missing"

    def test_a_prefix_is_listed_as_a_folder_is(self, bucket):
        for key in ("v/b", "v/a", "v/.hidden", "v/sub/c", "v/.git/d"):
            bucket.put_object(Key=key)
        assert list_folder("s3://voices/v") == (["a", "b"], ["sub"], [])

    @pytest.mark.parametrize(
        ("url", "is_one"),
        [
            ("s3://my.voices", True),
            ("s3://my.voices/", True),
            ("s3://voices/ann", True),
            ("s3://voices/v1.2/", True),
            ("s3://voices/v1.2/ann", True),
            ("s3://voices/ann.jsonl", False),
        ],
    )
    def test_a_folder_is_told_by_its_name(self, url, is_one):
        assert is_folder(url) == is_one


CONTENTS = [
    b"",
    b"\n",
    b"a",
    b"a\n",
    b"a\nb",
    b"\n\na\n",
    b"12345\n123456\n12\n",
    b"123456",
    b"a\r\nb\r",
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_lines_are_split_whatever_the_parts_are(tmp_path, monkeypatch, content, chunk):
    monkeypatch.setattr("cluster.sources.local_files._CHUNK", chunk)
    (tmp_path / "a").write_bytes(content)
    expected = [line if len(line) <= 5 else None for line in content.split(b"\n")]
    if not expected[-1] and not content.split(b"\n")[-1]:
        expected.pop()
    assert list(read_lines(str(tmp_path / "a"), limit=5)) == expected


@pytest.mark.parametrize("chunk", [3, 2**23])
def test_lines_come_from_s3_too(bucket, monkeypatch, chunk):
    monkeypatch.setattr("cluster.storage.s3._PART", chunk)
    bucket.put_object(Key="a", Body=b"one\ntwo too long\nthree")
    assert list(read_lines("s3://voices/a", limit=5)) == [b"one", None, b"three"]


def test_a_name_is_shown_without_what_is_secret():
    assert shown("https://ann:secret@host/a?X-Amz-Signature=secret") == "'https://host/a?...'"
    assert shown("a\x1b[31m") == r"'a\x1b[31m'"
    assert len(shown("a" * 10_000)) < 200


def test_an_error_can_be_taken_apart_and_put_together():
    """As it is when it goes from one process to another."""
    again = copy.copy(SourceError("missing", "must exist", "Correct it."))
    assert (again.rule, str(again)) == ("missing", "must exist. Correct it.")
