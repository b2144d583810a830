"""The ``voxcpm2`` family: VoxCPM2, which writes latents of an AudioVAE and no tokens.

Two language models read a text and the sound so far, a diffusion decoder writes the next patch of
four latents. ``docs/voxcpm2.md`` says what is trained, and what upstream does otherwise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.clips import PreparedClip, SpokenClip
from jobs.families.base import (
    WHOLE_LOSS,
    AdapterExtras,
    Batch,
    LossTerms,
    RowShare,
    device_of,
    frozen,
    language_tag_of,
    linear_layers,
    unshared,
)
from jobs.families.description import VOXCPM2_RULES, read_config, tagged
from jobs.families.layout import Example
from jobs.families.sampling import capped
from jobs.families.targets import chosen_layers
from jobs.families.voxcpm2 import description, generate, layout, objective
from jobs.families.voxcpm2.model import LatentCodec, LatentDigests, LatentModel, load_model
from jobs.families.voxcpm2.text import TextIds
from jobs.spec.trial import DecodingSpec, Precision, PromptSpec

_FIXED_PATCHES = 13
"""Two seconds that any text may take."""
_PATCHES_PER_TOKEN = 6
"""Nearly a second a text token: from there on the package's own ``generate`` takes it that
something went wrong (``retry_badcase_ratio_threshold``)."""


class VoxCPM2:
    """A loaded base of the family. See :class:`jobs.families.base.FrozenBase`."""

    rules = VOXCPM2_RULES
    aligns = False
    loss_parts = objective.PARTS

    def __init__(
        self,
        model: LatentModel,
        codec: LatentCodec,
        ids: TextIds,
        digests: LatentDigests,
        *,
        language_tag: bool = False,
    ) -> None:
        self.model = frozen(model)
        self.codec = codec
        self.digest = digests.base
        self.encoder_digest = digests.encoder
        self.sample_rate = codec.sample_rate
        self.speech_rate = codec.speech_rate
        self._ids = ids
        self._language_tag = language_tag
        self._layers = linear_layers(model)
        self._shape = layout.PatchShape(
            model.patch_size, model.feat_dim, model.feat_decoder.training_cfg_rate
        )

    def encode(self, audio: NDArray[np.float32], text: str) -> tuple[NDArray[np.float32], None]:
        """Patches of latents, (patches, latents * channels); there are no word markers."""
        return self.codec.encode(audio), None

    def voice_of(self, speaker: str | None) -> None:
        """None: a prompt says nothing of the speaker."""

    def layers(self, targets: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
        """Of the language models, the diffusion decoder or both, as ``TARGETS`` says."""
        return chosen_layers(targets, blocks, description.TARGETS, self._layers)

    def diffusion_layers(self, names: Sequence[str]) -> list[str]:
        """Those of the layers ``names`` that are the diffusion decoder's."""
        return [name for name in names if name.startswith(description.DIT)]

    def fit_speakers(self, clips: Sequence[PreparedClip]) -> None:
        """Nothing: the base is told of no speaker."""

    def adapter_extras(self) -> AdapterExtras:
        """The base that the adapter was trained on, and how it read texts."""
        facts = {"base": self.digest, "text_ids": self._ids.fingerprint()}
        return AdapterExtras({}, facts)

    def load_extras(self, extras: AdapterExtras) -> None:
        """Check that texts are read as the adapter learned them.

        Raises:
            ValueError: they are not.
        """
        learned, here = extras.facts["text_ids"], self._ids.fingerprint()
        if learned != here:
            raise ValueError(
                f"texts must be read as in training, whose ids have the fingerprint {learned}, got "
                f"{here}; use the tokenizer.json of the base that the adapter was trained on"
            )

    def examples(self, clips: Sequence[PreparedClip]) -> list[Example]:
        """Text and patches of each clip."""
        return [
            layout.example(self._text_ids(clip), clip.codes, clip.key or clip.id) for clip in clips
        ]

    def collate(self, examples: Sequence[Example], terms: LossTerms = WHOLE_LOSS) -> Batch:
        """See :func:`jobs.families.voxcpm2.layout.collate`."""
        own = cast(Sequence[layout.LatentExample], examples)
        return layout.collate(own, terms, self._shape, device_of(self.model))

    def targets(self, examples: Sequence[Example]) -> int:
        """Patches: of each its flow, and whether it is the last."""
        own = cast(Sequence[layout.LatentExample], examples)
        return sum(len(example.patches) for example in own)

    def loss_sums(
        self, model: nn.Module, batches: Sequence[Batch], share: RowShare = unshared
    ) -> list[Tensor]:
        """See :func:`jobs.families.voxcpm2.objective.loss_sums`."""
        sums: list[Tensor] = model(lambda network: objective.loss_sums(network, batches, share))
        return sums

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """Generate everything in one batch, then decode each one's latents to sound."""
        everything = [*prompts] * voices
        texts = [self._text_ids(prompt) for prompt in everything]
        caps = [capped(_FIXED_PATCHES + _PATCHES_PER_TOKEN * len(text), decoding) for text in texts]
        ids = [layout.prompt_ids(text) for text in texts]
        names = [prompt.id for prompt in everything]
        spoken: list[generate.GeneratedPatches] = []

        def work(network: nn.Module) -> list[Tensor]:
            spoken.extend(generate.generate(network, ids, names, caps, decoding, voices, share))
            return []

        model(work)
        return [
            SpokenClip(
                self.codec.decode(each.patches), self.speech_rate, prompt.text, each.reached_end
            )
            for prompt, each in zip(everything, spoken, strict=True)
        ]

    def _text_ids(self, utterance: PreparedClip | PromptSpec) -> list[int]:
        """As a text is read, in training and in speech."""
        tag = language_tag_of(utterance, self._language_tag)
        return self._ids(utterance.text if tag is None else tagged(utterance.text, tag))


def load(
    source: Path,
    codec: Path,
    voice: str | None,
    precision: Precision,
    language_tag: bool = False,
) -> VoxCPM2:
    """Load a base's directory; its AudioVAE lies in it, so ``codec`` is not read.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is no base of the family, its weights do not fit its ``config.json``, or a
            ``voice`` is asked for.
    """
    if voice is not None:
        raise ValueError(f"base.voice must be null: voxcpm2 has no voices by name, got {voice!r}")
    read_config(source, description.ARCHITECTURE, key="architecture")
    model, own_codec = load_model(source, precision)
    ids = TextIds.read(source)
    digests = LatentDigests.read(source, ids.fingerprint())
    return VoxCPM2(model, own_codec, ids, digests, language_tag=language_tag)
