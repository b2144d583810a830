"""File names in a manifest or a spec: which are refused, and how an error quotes them."""

import re

CELL = "cell"
"""The scheme of the locations that :mod:`cluster.sources.arrow_files` makes."""
PARQUET = b"PAR1"
"""The first bytes of a Parquet file."""
ARROW = (b"ARROW1", b"\xff\xff\xff\xff")
"""Those of a file and of a stream of Arrow's IPC format."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_LOGIN = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"(?<=\?)[^?]*$")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
"""As S3's "Bucket naming rules" have it, but for the names it reserves."""
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and how Python shows bytes that are not UTF-8. Not `str.isprintable`, which
refuses the joiners that Khmer or Persian names may have."""
_SHOWN = 160
"""Characters of a name that an error shows."""


class SourceError(Exception):
    """A file that is not read, and the rule that forbids it."""

    def __init__(self, rule: str, what: str, next_step: str) -> None:
        super().__init__(rule, what, next_step)
        self.rule = rule
        self.what = what
        """The rule and the value, to be put after what the file is: ``must exist, but ...``."""
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}. {self.next_step}"


def shown(name: str) -> str:
    """``name`` as an error shows it: quoted, escaped, short, without a password or a signature."""
    if _SCHEME.match(name):
        name = _QUERY.sub("...", _LOGIN.sub("", name))
    if len(name) > _SHOWN:
        name = f"{name[: _SHOWN // 2]}...{name[-_SHOWN // 2 :]}"
    return repr(name)


def check_name(name: str) -> None:
    """What holds for every name, wherever it leads.

    Raises:
        SourceError: a backslash, or a character that no name may have.
    """
    if "\\" in name:
        what = f"must be written with /, but has a backslash: {shown(name)}"
        raise SourceError("backslash", what, "Replace each backslash by /.")
    if not name or _UNPRINTABLE.search(name):
        what = (
            "must be a name without control characters and bytes that are not UTF-8, "
            f"got {shown(name)}"
        )
        raise SourceError("bad-name", what, "Rename the file.")


def scheme(name: str) -> str | None:
    """``https`` of ``https://host/a.wav``; None for a path."""
    found = _SCHEME.match(name)
    return found.group().removesuffix("://").lower() if found else None


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``.

    Raises:
        SourceError: S3 can have no such bucket.
    """
    bucket, _, key = url[len("s3://") :].partition("/")
    if not _BUCKET.match(bucket):
        # It is not shown: people put a login there.
        what = "must start with s3:// and the name of a bucket, which has 3 to 63 of a-z 0-9 . -"
        raise SourceError("bad-name", what, "Correct the bucket; credentials do not belong there.")
    return bucket, key


def refuse_url(name: str) -> SourceError:
    """For a name that leads to another kind of place."""
    what = f"must be a path below its list's root, got the URL {shown(name)}"
    return SourceError("url", what, "Fetch the file, and name it by its path.")


def refuse_outside(name: str, root: str) -> SourceError:
    """For a name that leaves the root."""
    what = f"must lie in {shown(root)}, but {shown(name)} leads out of it"
    hint = "Move the file there, or name the folder that holds everything as the root."
    return SourceError("outside-root", what, hint)
