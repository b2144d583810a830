"""S3, asked over HTTP: what is there is read, what goes wrong is told without credentials."""

import traceback

import pytest

from cluster.sources.reading import SourceError, check_file, open_binary, read_lines
from cluster.storage import s3


def test_an_object_is_read_whole(bucket):
    bucket.put_object(Key="a/b.bin", Body=b"\0\xff" * 500)
    assert s3.read("voices", "a/b.bin") == b"\0\xff" * 500
    assert s3.size("voices", "a/b.bin") == 1000


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 25])
def test_an_object_is_read_in_parts(bucket, monkeypatch, size):
    monkeypatch.setattr(s3, "_PART", 10)
    data = bytes(range(size))
    bucket.put_object(Key="a", Body=data)
    parts = list(s3.read_chunks("voices", "a"))
    assert b"".join(parts) == data
    assert [len(part) for part in parts[:-1]] == [10] * (len(parts) - 1)


def test_an_object_that_changes_while_it_is_read_is_not_mixed(bucket, monkeypatch):
    monkeypatch.setattr(s3, "_PART", 10)
    bucket.put_object(Key="a", Body=b"a" * 30)
    parts = s3.read_chunks("voices", "a")
    assert next(parts) == b"a" * 10
    bucket.put_object(Key="a", Body=b"b" * 30)
    with pytest.raises(ConnectionError, match="changed while it was read"):
        next(parts)


def test_folders_are_listed_over_several_pages(bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")  # the server reads it at each request
    names = [f"n{index:02d}" for index in range(12)]
    for name in names:
        bucket.put_object(Key=f"v/{name}")
    for key in ("v/", "v/sub/x", "v/sub/y", "vv/z", "other"):
        bucket.put_object(Key=key)
    assert s3.list_folder("voices", "v/") == (names, ["sub"])
    assert s3.list_folder("voices", "") == (["other"], ["v", "vv"])


def test_what_is_not_there_is_missing(bucket):
    for read in (s3.read, s3.size, lambda *address: next(s3.read_chunks(*address))):
        with pytest.raises(FileNotFoundError, match="there is no s3://voices/gone"):
            read("voices", "gone")
    with pytest.raises(FileNotFoundError):
        s3.read("no-such-bucket", "a")
    with pytest.raises(FileNotFoundError):
        s3.list_folder("no-such-bucket", "")


def told(read, *arguments) -> str:
    """All that a person could be shown of an error."""
    with pytest.raises(SourceError) as caught:
        read(*arguments)
    assert caught.value.rule == "unreadable"
    assert caught.value.next_step
    return "".join(traceback.format_exception(caught.value))


def test_no_credentials_are_told_in_words(fresh_client, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    text = told(check_file, "s3://voices/a.jsonl")
    assert "no AWS credentials to read s3://voices/a.jsonl" in text


def test_an_unknown_profile_is_told_in_words(fresh_client, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "no AWS profile" in told(check_file, "s3://voices/a.jsonl")


@pytest.mark.parametrize(
    "endpoint", ["http://ann:very-secret@127.0.0.1:1", "ann:very-secret@no url"]
)
def test_an_endpoint_that_is_not_there_is_told_without_its_password(
    fresh_client, monkeypatch, endpoint
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(s3.Config(retries={"max_attempts": 1})))
    for read in (check_file, lambda url: open_binary(url, 9), lambda url: next(read_lines(url, 9))):
        text = told(read, "s3://voices/a.jsonl")
        assert "very-secret" not in text
        assert "AKIATESTING" not in text


def test_what_s3_refuses_is_told_without_credentials(bucket, s3_server):
    """moto checks policies once it is told to, and counts its requests down to that."""
    import requests

    bucket.put_object(Key="a", Body=b"1")
    s3.read("voices", "a")
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
    try:
        text = told(open_binary, "s3://voices/a", 9)
    finally:
        requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=60).raise_for_status()
    assert "S3 does not let these credentials read s3://voices/a" in text
    assert "AKIATESTING" not in text
    assert "very-secret" not in text
