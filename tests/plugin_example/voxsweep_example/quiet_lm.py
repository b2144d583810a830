"""The ``quiet_lm`` family: ``codec_lm`` at half the volume."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from jobs.clips import SpokenClip
from jobs.families.base import RowShare, unshared
from jobs.families.codec_lm import CodecLM
from jobs.spec.trial import DecodingSpec, PromptSpec
from voxsweep_example import FAMILY


class QuietLM(CodecLM):
    """A loaded base of the family."""

    rules = FAMILY.rules

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """As ``codec_lm``, with every sample halved."""
        spoken = super().speak(model, prompts, decoding, voices, share)
        return [replace(clip, audio=clip.audio / 2) for clip in spoken]


load = QuietLM.load
