"""What prepared data follows from: the keys of a clip, and the digest of a data set."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import data_digest
from jobs.data.prepared.preprocess import Preprocessing
from jobs.spec.data import DataSpec

if TYPE_CHECKING:
    from jobs.families.base import FrozenBase

_SCHEMA = 1
"""Of the files that a data set consists of; another one is another recipe."""
_HOW = {"dtype": "float32", "batching": "one clip at a time"}
"""How every base encodes, whatever precision its model has: an encoder in another precision, or a
neighbour in the batch, gives other codes."""


@dataclass(frozen=True)
class Recipe:
    """How recordings become codes: the same for all clips of a data set."""

    preprocessing: Preprocessing
    encoder: str
    """The base's ``encoder_digest``."""
    aligns: bool
    """Whether what comes out depends on the text."""

    @classmethod
    def of(cls, base: "FrozenBase", data: DataSpec) -> "Recipe":
        """As ``data`` asks for and ``base`` needs."""
        preprocessing = Preprocessing.of(data, base.rules, base.sample_rate)
        return cls(preprocessing, base.encoder_digest, base.aligns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over options and versions."""
        steps = self.preprocessing.recipe()
        return _sha256([_SCHEMA, steps, self.encoder, self.aligns, _HOW])

    def clip_key(self, clip: TargetClip) -> str:
        """SHA-256 over all that the clip's codes and word starts follow from."""
        return _sha256([self.digest, clip.pcm, clip.row.text if self.aligns else None])

    def data_digest(
        self,
        clips: Sequence[TargetClip],
        references: Mapping[str | None, str],
        *,
        language_tag: bool,
    ) -> str:
        """Of a data set: all that training on it depends on, the places of its files not among it.

        ``references`` are the digests of the recordings that speakers are told by.
        """
        rows = [
            [
                self.clip_key(clip),
                clip.row.text,
                clip.row.split,
                clip.row.speaker,
                clip.row.language,
            ]
            for clip in clips
        ]
        told = sorted(references.items(), key=repr)
        return data_digest(self.digest, _sha256([rows, told, language_tag]))


def _sha256(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
