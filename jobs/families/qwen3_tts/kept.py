"""What is kept with an adapter of the family; ``jobs/export/qwen3_tts.py`` reads it."""

from importlib.metadata import version

from torch import Tensor

from jobs.families.base import Keepsakes
from jobs.families.qwen3_tts.digests import Digests
from jobs.families.qwen3_tts.layout import VERSION
from jobs.families.qwen3_tts.speakers import UNNAMED, Speakers
from jobs.families.vendor import QWEN_TTS

SPEAKER_SLOT = 3000
"""The row of the talker's codec table that upstream gives to a new speaker: no code, no control
id, and never picked. Further speakers get the rows below it."""


def keep(speakers: Speakers, digests: Digests) -> Keepsakes:
    """The speakers' vectors by lower-cased name, as the package looks them up, and the facts."""
    known = {(name or UNNAMED).lower(): vector for name, vector in speakers.known.items()}
    facts = {
        "family": "qwen3_tts",
        "speakers": {name: {"slot": SPEAKER_SLOT - i} for i, name in enumerate(known)},
        "is_dialect": False,
        "layout": VERSION,
        "non_streaming_mode": True,
        "language": "by tag, else auto",
        "base_digest": digests.base,
        "encoder_digest": digests.encoder,
        "tokenizer_digest": digests.tokenizer,
        "versions": {name: version(name) for name in (QWEN_TTS, "transformers", "torch")},
    }
    return Keepsakes(known, facts)


def in_order(kept: Keepsakes) -> dict[str, Tensor]:
    """The speakers' vectors in the order in which they were met; files do not keep it."""
    slots = kept.facts["speakers"]
    return {name: kept.tensors[name] for name in sorted(slots, key=lambda n: -slots[n]["slot"])}
