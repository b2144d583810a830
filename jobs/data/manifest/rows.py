"""One clip of the target, as a list has it."""

from dataclasses import dataclass

from jobs.clips import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One clip of the target and what it says."""

    where: str
    """``manifest:line``, or the file that stands for the clip."""
    audio: str
    """An absolute path, or a URL under ``s3://``; it lies in the data root."""
    text: str
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
