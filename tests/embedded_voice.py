"""The shipped voice as clips that can be used, and any other rows that a test has made up."""

from collections.abc import Iterable

from jobs.audio.files import decode, pcm_digest
from jobs.data.checks.target import checked_clips
from jobs.data.clips import ManifestRow, TargetClip
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec

EMBEDDED_HOST = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)


def embedded_clips() -> list[TargetClip]:
    return checked_clips(DataSpec(), EMBEDDED_HOST)


def target_clips(rows: Iterable[ManifestRow]) -> list[TargetClip]:
    """Without any check."""
    clips = []
    for row in rows:
        heard = decode(row.audio)
        seconds = len(heard.samples) / heard.rate
        clips.append(TargetClip(row, pcm_digest(heard), heard.rate, seconds))
    return clips
