"""The recordings that the names in a list mean: with or without suffix, folder or drive letter."""

import re
import unicodedata
from collections.abc import Iterator

from cluster.sources.reading import Root, SourceError, is_s3, list_folder
from jobs.data.manifest.pairs import AUDIO_SUFFIXES

_FOLDERS = ("", "wavs/", "wav/", "audio/", "clips/")
"""Where the recordings of a table may lie, beside the table: LJSpeech's, Common Voice's."""
_SUFFIXES = ("", *AUDIO_SUFFIXES, *(suffix.upper() for suffix in AUDIO_SUFFIXES))
_DRIVE = re.compile(r"^[A-Za-z]:/|^//")
"""How Windows begins an absolute path, its backslashes turned round."""
_ABSENT = frozenset({"missing", "not-a-file"})


class Names:
    """Resolves the names of one list."""

    def __init__(self, folder: str, place: Root) -> None:
        self._folder, self._place = folder, place
        self._last = ("wavs/", ".wav")
        self._listed: dict[str, set[str]] = {}
        self.read_backslashes = False
        """Whether a name was written as Windows does, and was found."""

    def locate(self, name: str, *, in_table: bool) -> str:
        """The location that ``name`` means, in whatever normal form of Unicode its file has.

        In a table, the name may lack its suffix and its folder. A path of Windows that is not
        there is looked for by its end.

        Raises:
            SourceError: it leads out of the root, or to no file.
        """
        if "\\" in name:
            return self._from_windows(name, in_table=in_table)
        problem: SourceError | None = None
        for folder, suffix in self._ways(name) if in_table else (("", ""),):
            for form in _forms(f"{folder}{name}{suffix}"):
                try:
                    found = self._place.locate(form)
                    if in_table and is_s3(found) and not self._is_listed(found):
                        what = f"must exist, but there is no {found}"
                        raise SourceError("missing", what, "Correct the name.")
                except SourceError as absent:
                    if absent.rule not in _ABSENT:
                        raise
                    problem = problem or absent
                else:
                    self._last = (folder, suffix)
                    return found
        assert problem is not None
        raise problem

    def is_audio(self, name: str) -> bool:
        """Whether a cell of a table leads to a recording."""
        try:
            self.locate(name.strip(), in_table=True)
        except SourceError:
            return False
        return True

    def _ways(self, name: str) -> Iterator[tuple[str, str]]:
        """The folders and suffixes that ``name`` may lack, first what the last one lacked."""
        has_suffix = f".{name.rpartition('.')[2].lower()}" in AUDIO_SUFFIXES
        if not has_suffix:
            yield self._last
        for folder in ("",) if name.startswith("/") else _FOLDERS:
            for suffix in ("",) if has_suffix else _SUFFIXES:
                yield folder, suffix

    def _from_windows(self, name: str, *, in_table: bool) -> str:
        turned = name.replace("\\", "/")
        parts = _DRIVE.sub("", turned).split("/")
        is_absolute = _DRIVE.match(turned) is not None
        for start in range(len(parts) if is_absolute else 1):
            tail = "/".join(parts[start:])
            if tail.startswith("../") or "/../" in tail:
                break
            try:
                found = self.locate(tail, in_table=in_table or is_s3(self._folder))
            except SourceError as problem:
                if problem.rule not in _ABSENT:
                    raise
            else:
                self.read_backslashes = True
                return found
        what = (
            f"must be a file of this machine written with /, but {name!r} is not found by its end"
        )
        raise SourceError("backslash", what, f"Write it from here, such as {parts[-1]!r}.")

    def _is_listed(self, url: str) -> bool:
        """Whether S3 has the object: tables are resolved by listing each folder once."""
        folder, _, name = url.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = set(list_folder(folder)[0])
        return name in self._listed[folder]


def _forms(name: str) -> tuple[str, ...]:
    """``name`` as it is, and as macOS and others write the same."""
    if name.isascii():
        return (name,)
    return tuple(dict.fromkeys((name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD")))))
