"""What may be wrong with the recording of one clip."""

from collections.abc import Iterator

from jobs.audio.files import RESAMPLER
from jobs.data.checks.limits import Limits
from jobs.data.checks.recording_facts import Sound, Unheard
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.rows import ManifestRow
from jobs.metrics.signal import SILENCE

CLIPPED_SOME = 0.001
"""Share of the samples at full scale from which on a clip is told of: more than single peaks."""
CLIPPED_MUCH = 0.05
"""From here on words are hard to tell from noise. Both shares are beliefs."""
CLAIM_SECONDS, CLAIM_SHARE = 0.2, 0.05
"""A claimed duration may be off by the larger of the two: rounding, and encoders' padding."""
UPSAMPLED_SHARE = 0.8
"""Of what the clip's rate or the base's can carry, the share that its spectrum must reach."""


def sound_findings(
    row: ManifestRow, heard: Sound | Unheard, limits: Limits, rate: int
) -> Iterator[Finding]:
    """What is wrong with the clip's own recording; ``rate`` is the base's, in Hz."""
    if isinstance(heard, Unheard):
        yield error(heard.rule, row.where, heard.what, heard.next_step)
        return
    yield from _bad_duration(row, heard.seconds, limits)
    if not heard.level >= SILENCE:
        yield _silent(row, "audio", heard)
        return
    if heard.clipped >= CLIPPED_SOME:
        told, bound = (
            (error, CLIPPED_MUCH) if heard.clipped >= CLIPPED_MUCH else (warning, CLIPPED_SOME)
        )
        what = f"less than {bound:.1%} of audio may be at full scale, but {heard.clipped:.1%} is"
        yield told("audio-clipped", row.where, what, "Record it again, or drop the clip.")
    yield from _lacking(row, heard, rate)


def reference_findings(row: ManifestRow, heard: Sound | Unheard) -> Iterator[Finding]:
    """What is wrong with ``ref_audio``: that it is not audio, or that it is silent."""
    if isinstance(heard, Unheard):
        yield error(heard.rule, row.where, f"ref_audio: {heard.what}", heard.next_step)
    elif not heard.level >= SILENCE:
        yield _silent(row, "ref_audio", heard)


def _bad_duration(row: ManifestRow, seconds: float, limits: Limits) -> Iterator[Finding]:
    if seconds < limits.min_seconds:
        what = f"audio must last {limits.min_seconds:g} s or longer ({limits.min_by})"
        advice = "Drop the clip, or set data.min_seconds."
        yield error("duration-short", row.where, f"{what}, got {seconds:.2f} s", advice)
    if seconds > limits.max_seconds:
        what = f"audio must last {limits.max_seconds:g} s or less ({limits.max_by})"
        advice = "Cut the clip, or set data.max_seconds."
        yield error("duration-long", row.where, f"{what}, got {seconds:.2f} s", advice)
    claimed = row.duration
    if claimed and abs(claimed - seconds) > max(CLAIM_SECONDS, CLAIM_SHARE * seconds):
        what = f"duration must be that of the audio, {seconds:.2f} s, got {claimed:g}"
        advice = "Correct it, or look whether this is the file that was meant."
        yield warning("duration-claimed", row.where, what, advice)


def _lacking(row: ManifestRow, heard: Sound, rate: int) -> Iterator[Finding]:
    """A recording that holds less of the spectrum than the base can learn, or than it claims."""
    if heard.rate < rate:
        what = f"audio should be recorded at the base's {rate} Hz or more, got {heard.rate} Hz"
        advice = f"It is resampled by {RESAMPLER}; what lies above {heard.rate // 2} Hz is missing."
        yield warning("rate-low", row.where, what, advice)
    carried = min(heard.rate, rate) / 2
    if heard.edge is not None and heard.edge < UPSAMPLED_SHARE * carried:
        what = (
            f"audio at {heard.rate} Hz should hold sound up to some {carried:.0f} Hz, but its "
            f"spectrum ends at {heard.edge:.0f} Hz"
        )
        advice = "It was upsampled or went through MP3: look for the original."
        yield warning("audio-upsampled", row.where, what, advice)


def _silent(row: ManifestRow, key: str, heard: Sound) -> Finding:
    what = f"{key} must reach {SILENCE:.0f} dBFS RMS, got {heard.level:.1f} dBFS"
    return error("audio-silent", row.where, what, "Look for the original, or drop the clip.")
