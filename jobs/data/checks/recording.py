"""Measures a recording, and checks it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.audio.bandwidth import spectral_edge
from jobs.audio.files import RESAMPLER, AudioError, decode, pcm_digest
from jobs.data.checks.limits import Limits
from jobs.data.checks.sound import SoundFacts, sound_facts
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error, warning
from jobs.metrics.signal import CLIPPED, SILENCE, rms_dbfs

CLIPPED_SOME = 0.001
"""Share of the samples at full scale from which on a clip is reported: more than single peaks."""
CLIPPED_MUCH = 0.05
"""From here on words are hard to tell from noise. Both shares are beliefs."""
CLAIM_SECONDS, CLAIM_SHARE = 0.2, 0.05
"""A claimed duration may be off by the larger of the two: rounding, and encoders' padding."""
UPSAMPLED_SHARE = 0.8
"""Of what the clip's rate or the base's can carry, the share that its spectrum must reach."""


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """Facts of one recording."""

    pcm: str
    """SHA-256 of the rate and the mono samples."""
    rate: int
    """Hz."""
    seconds: float
    level: float
    """RMS in dBFS, a constant offset taken out; -inf for digital silence."""
    clipped: float
    """Share of the samples at full scale, 0 to 1."""
    edge: float | None
    """Hz where the spectrum ends; None where it does not."""
    sound: SoundFacts
    claimed: float | None = None
    """Seconds that the file's header claims, where the file has more."""


def measure_recording(location: str) -> RecordingFacts | AudioError:
    """Decode a recording and measure it. An unusable one is returned as its error, not raised."""
    try:
        recording = decode(location)
    except AudioError as unusable:
        return unusable
    samples, rate = recording.samples, recording.rate
    return RecordingFacts(
        pcm=pcm_digest(recording),
        rate=rate,
        seconds=len(samples) / rate,
        level=rms_dbfs(samples - np.mean(samples, dtype=np.float64).astype(np.float32)),
        clipped=float(np.mean(np.abs(samples) >= CLIPPED)),
        edge=spectral_edge(samples, rate),
        sound=sound_facts(samples, rate),
        claimed=recording.claimed / rate if recording.claimed else None,
    )


def check_recording(
    row: ManifestRow, facts: RecordingFacts | AudioError, limits: Limits, rate: int
) -> Iterator[Finding]:
    """Check the clip's own recording; ``rate`` is the base's, in Hz."""
    if isinstance(facts, AudioError):
        yield error(facts.rule, row.where, facts.what, facts.next_step)
        return
    yield from _check_duration(row, facts.seconds, limits)
    yield from _check_claim(row, "audio", facts)
    if not facts.level >= SILENCE:
        yield _silence_error(row, "audio", facts)
        return
    if facts.clipped >= CLIPPED_SOME:
        finding, bound = (
            (error, CLIPPED_MUCH) if facts.clipped >= CLIPPED_MUCH else (warning, CLIPPED_SOME)
        )
        what = f"less than {bound:.1%} of audio may be at full scale, but {facts.clipped:.1%} is"
        yield finding("audio-clipped", row.where, what, "Record it again, or drop the clip.")
    yield from _check_bandwidth(row, facts, rate)


def check_reference(row: ManifestRow, facts: RecordingFacts | AudioError) -> Iterator[Finding]:
    """Check that ``ref_audio`` is audio, and not silent."""
    if isinstance(facts, AudioError):
        yield error(facts.rule, row.where, f"ref_audio: {facts.what}", facts.next_step)
    elif not facts.level >= SILENCE:
        yield _silence_error(row, "ref_audio", facts)
    else:
        yield from _check_claim(row, "ref_audio", facts)


def _check_duration(row: ManifestRow, seconds: float, limits: Limits) -> Iterator[Finding]:
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


def _check_claim(row: ManifestRow, key: str, facts: RecordingFacts) -> Iterator[Finding]:
    """A header that knows of a part of the sound alone, as of files that were joined."""
    if facts.claimed is not None:
        what = (
            f"{key} should be as long as its header claims, {facts.claimed:.2f} s, but has "
            f"{facts.seconds:.2f} s, which are taken"
        )
        yield warning("audio-length", row.where, what, "Listen whether the text is all of it.")


def _check_bandwidth(row: ManifestRow, facts: RecordingFacts, rate: int) -> Iterator[Finding]:
    """A recording that holds less of the spectrum than the base can learn, or than it claims."""
    if facts.rate < rate:
        what = f"audio should be recorded at the base's {rate} Hz or more, got {facts.rate} Hz"
        advice = f"It is resampled by {RESAMPLER}; what lies above {facts.rate // 2} Hz is missing."
        yield warning("rate-low", row.where, what, advice)
    carried = min(facts.rate, rate) / 2
    if facts.edge is not None and facts.edge < UPSAMPLED_SHARE * carried:
        what = (
            f"audio at {facts.rate} Hz should hold sound up to some {carried:.0f} Hz, but its "
            f"spectrum ends at {facts.edge:.0f} Hz"
        )
        advice = "It was upsampled or went through MP3: look for the original."
        yield warning("audio-upsampled", row.where, what, advice)


def _silence_error(row: ManifestRow, key: str, facts: RecordingFacts) -> Finding:
    what = f"{key} must reach {SILENCE:.0f} dBFS RMS, got {facts.level:.1f} dBFS"
    return error("audio-silent", row.where, what, "Look for the original, or drop the clip.")
