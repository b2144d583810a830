"""A clip that was looked into and can be used."""

from dataclasses import dataclass

from jobs.data.manifest.rows import ManifestRow


@dataclass(frozen=True, slots=True)
class TargetClip:
    """A manifest's row whose audio was decoded and whose text can be read."""

    row: ManifestRow
    """With its split; its text is what will be learned, annotations stripped if that was asked."""
    pcm: str
    """SHA-256 of the rate and the mono samples: two files of the same sound have the same."""
    rate: int
    """Hz, as recorded."""
    seconds: float
