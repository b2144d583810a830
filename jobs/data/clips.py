"""A clip as a manifest names it, and as a check accepted it."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.clips import Split

Progress = Callable[[int, int], None]
"""Called with the number of clips that are done, and of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One clip of the target, as its manifest describes it."""

    where: str
    """``manifest:line``, or the file that stands for the clip."""
    audio: str
    """An absolute path, or a URL under ``s3://``; it lies in the data root."""
    text: str
    written: str | None = None
    """The manifest's text, where ``text`` was changed to what is learned; None where it was not."""
    speaker: str | None = None
    language: str | None = None
    ref_audio: str | None = None
    """Another recording of the speaker, as ``audio``."""
    duration: float | None = None
    """Seconds, as the manifest claims."""
    split: Split | None = None
    """None where the manifest leaves it to :mod:`jobs.data.order.split`."""
    manifest: str = ""
    """The list that it stands in."""


@dataclass(frozen=True, slots=True)
class TargetClip:
    """A manifest's row whose audio was decoded and whose text can be read."""

    row: ManifestRow
    """With its split; its text is what will be learned."""
    pcm: str
    """SHA-256 of the rate and the mono samples: two files of the same sound have the same."""
    rate: int
    """Hz, as recorded."""
    seconds: float
