"""Hostile names in a manifest, and what they lead to."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import soundfile

from tests.jobs.data.hostile_case import (
    RATE,
    Case,
    file_case,
    line_case,
    row,
    tone,
    write_lines,
)


def name_case(name: str, rule: str | None, audio: str) -> Case:
    return line_case(name, rule, row(audio=audio))


def linked(target: str) -> Callable[[Path], None]:
    return lambda root: (root / "bad.wav").symlink_to(target)


def absolute(root: Path, name: Path) -> None:
    write_lines(root, row(), row(audio=str(name)), row())


def linked_folder(root: Path) -> None:
    (root / "clips").symlink_to("../outside")


def two_links(root: Path) -> None:
    (root / "bad.wav").symlink_to("worse.wav")
    (root / "worse.wav").symlink_to("bad.wav")


def looped_folder(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "again").symlink_to("../sub/again")


def look_alike(root: Path) -> None:
    """A folder whose name begins as the root's does."""
    other = root.with_name(root.name + "-other")
    other.mkdir()
    soundfile.write(other / "a.wav", tone(), RATE)
    write_lines(root, row(), row(audio=f"../{other.name}/a.wav"), row())


def bind_socket(root: Path) -> None:
    # A socket's path must be short, so it is bound from inside.
    before = os.open(".", os.O_RDONLY)
    os.chdir(root)
    try:
        with socket.socket(socket.AF_UNIX) as open_socket:
            open_socket.bind("bad.wav")
    finally:
        os.fchdir(before)
        os.close(before)


def link_inside(root: Path) -> None:
    (root / "clips").mkdir()
    soundfile.write(root / "clips" / "a.wav", tone(), RATE)
    (root / "bad.wav").symlink_to("clips/a.wav")


def beyond_a_link(root: Path) -> None:
    """``in/../canary.wav`` lies in the root as it is written, and outside as it is."""
    (root.parent / "outside" / "deep").mkdir()
    (root / "in").symlink_to("../outside/deep")


CASES = [
    name_case("path traversal", "audio-outside-root", "../outside/canary.wav"),
    name_case("path traversal from below", "audio-outside-root", "a/../../outside/canary.wav"),
    Case(
        "absolute path outside",
        "audio-outside-root",
        lambda root: absolute(root, root.parent / "outside" / "canary.wav"),
    ),
    name_case("a device", "audio-outside-root", "/dev/zero"),
    name_case("the root's parent", "audio-outside-root", ".."),
    Case("a folder named nearly as the root", "audio-outside-root", look_alike),
    Case(
        "reference outside",
        "audio-outside-root",
        lambda root: write_lines(root, row(), row(ref_audio="../outside/canary.wav"), row()),
    ),
    file_case("link out", "audio-link-outside-root", linked("../outside/canary.wav")),
    file_case("link to a device", "audio-link-outside-root", linked("/dev/zero")),
    file_case("folder link out", "audio-link-outside-root", linked_folder, "clips/canary.wav"),
    file_case("beyond a link", "audio-link-outside-root", beyond_a_link, "in/../canary.wav"),
    file_case("link to itself", "audio-link-loop", linked("bad.wav")),
    file_case("links to each other", "audio-link-loop", two_links),
    file_case("folder that links to itself", "audio-link-loop", looped_folder, "sub/again/a.wav"),
    file_case("link to nothing", "audio-missing", linked("gone.wav")),
    name_case("missing file", "audio-missing", "gone.wav"),
    name_case("a file as folder", "audio-missing", "good.wav/a.wav"),
    name_case("through a folder that is not there", "audio-missing", "gone/../good.wav"),
    name_case("home directory", "audio-missing", "~/a.wav"),
    file_case("folder", "audio-not-a-file", lambda root: (root / "bad.wav").mkdir()),
    name_case("the root", "audio-not-a-file", "."),
    file_case("fifo", "audio-not-a-file", lambda root: os.mkfifo(root / "bad.wav")),
    file_case("socket", "audio-not-a-file", bind_socket),
    name_case("nul in a name", "audio-bad-name", "good.wav\0.txt"),
    name_case("line feed in a name", "audio-bad-name", "good\n.wav"),
    name_case("half a surrogate pair in a name", "audio-bad-name", "\udcff.wav"),
    name_case("a name of 300 bytes", "audio-name-too-long", "a" * 296 + ".wav"),
    name_case("a path of 8000 bytes", "audio-name-too-long", "a/" * 4000 + "a.wav"),
    name_case("s3 in a local manifest", "audio-url", "s3://bucket/a.wav"),
    name_case("web address", "audio-url", "https://user:secret@example.org/a.wav?token=secret"),
    name_case("file address", "audio-url", "file:///etc/passwd"),
    name_case("backslashes", "audio-backslash", "clips\\good.wav"),
    name_case("drive letter to a file that is not there", "audio-backslash", "C:\\clips\\a.wav"),
    name_case("drive letter and a step out", "audio-backslash", "C:\\..\\outside\\canary.wav"),
    Case(
        "drive letter",
        "audio-backslash",
        lambda root: write_lines(root, row(), row(audio="C:\\clips\\good.wav"), row()),
        left=3,
        severity="warning",
    ),
    Case("absolute path inside", None, lambda root: absolute(root, root / "good.wav"), left=3),
    file_case("link inside", None, link_inside),
    name_case("roundabout path", None, ".//./good.wav"),
]
