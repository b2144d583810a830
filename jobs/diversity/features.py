"""What is measured of each training clip, and the file in which it is kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

FEATURES: Mapping[str, str] = {
    "level": "dBFS",
    "dynamics": "dB",
    "dnsmos_ovrl": "MOS",
    "dnsmos_p808": "MOS",
    "wada_snr": "dB",
    "dnsmos_bak": "MOS",
    "log2_f0": "octaves",
    "f0_sd": "semitones",
    "speaking_rate": "characters/s",
    "centroid_similarity": "cosine",
    "duration": "s",
}
"""Name and unit of what every clip has, unless it failed; see docs/data.md for what each is."""

OTHER_SIMILARITY = "other_similarity"
"""Cosine to the nearest other speaker's centroid; only clips of data with several speakers."""

UNNAMED = "unnamed"
"""The speaker of clips whose manifest names none."""


@dataclass(frozen=True)
class ClipFeatures:
    """One training clip: its numbers, and why it lacks those that it lacks."""

    speaker: str
    text: str
    values: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Name of a feature to the reason it has no value."""


@dataclass(frozen=True)
class MeasuredData:
    """Every training clip, in the manifest's order, and what measured it."""

    clips: Sequence[ClipFeatures]
    versions: Mapping[str, str]
    """Metric name to version."""

    def to_json(self) -> str:
        """One object, a clip a line."""
        clips = ",\n".join(json.dumps(asdict(clip)) for clip in self.clips)
        return f'{{"versions": {json.dumps(dict(self.versions))},\n"clips": [\n{clips}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "MeasuredData":
        """The inverse of :meth:`to_json`."""
        read = json.loads(text)
        return cls([ClipFeatures(**clip) for clip in read["clips"]], read["versions"])
