"""What training, speaking and scoring need of a family; each family is one implementation.

Notation: b clips in a batch, s tokens, v vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.clips import Codes, PreparedClip, SpokenClip
from jobs.families.description import DataRules
from jobs.families.layout import Example
from jobs.spec.trial import ACOUSTIC_WEIGHT, DecodingSpec, PromptSpec

Batch = Mapping[str, Tensor]
"""What a family's loss reads; the keys are the family's own."""

RowShare = Callable[[Sequence[int]], AbstractContextManager[None]]
"""Tells the adapters which rows are whose: ``with share([6, 4]):`` says that of every ten rows that
the linear layers see, the first six are the first adapter's and the other four the second's. Rows
are what is left of a layer's input when all but the last dimension are flattened."""


def unshared(counts: Sequence[int]) -> AbstractContextManager[None]:
    """The RowShare of a model that carries no adapters."""
    return nullcontext()


@dataclass(frozen=True)
class LossTerms:
    """How a family of several codebooks adds its losses up; others have no use for it."""

    acoustic_weight: float = ACOUSTIC_WEIGHT
    acoustic_share: float = 1.0
    """See :class:`jobs.spec.trial.TrainingSpec`."""
    draw: torch.Generator | None = None
    """Where the share is drawn from, on the model's device; None is torch's own."""


WHOLE_LOSS = LossTerms()
"""As validation takes it, whatever a trial trains on: trials can then be compared."""


@dataclass(frozen=True)
class AdapterExtras:
    """What has to be kept with an adapter, for it to speak where the base is all there is."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    """For JSON."""


class FrozenBase(Protocol):
    """A frozen pretrained model of one family, with what turns text to tokens and back to sound.

    ``model`` may carry an adapter while one is attached; a method that runs a model is given the
    one to run, so that an engine's wrapper can stand in for it.
    """

    @property
    def model(self) -> nn.Module:
        """The pretrained network, every parameter frozen."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 over weights, tokenizer and layout."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second of everything that goes in or comes out."""
        ...

    @property
    def rules(self) -> DataRules:
        """What the family asks of its data."""
        ...

    @property
    def encoder_digest(self) -> str:
        """SHA-256 over what :meth:`encode` depends on besides its arguments."""
        ...

    @property
    def aligns(self) -> bool:
        """Whether :meth:`encode` looks for the words of the text; if not, it does not read it."""
        ...

    def voice_of(self, speaker: str | None) -> str | None:
        """Which of the base's own voices a speaker is asked for by.

        None where the base has no voices by name: a speaker is then told by recordings or not at
        all. Somebody whom it does not know is asked for by the voice that the base was loaded with.
        """
        ...

    def encode(self, audio: NDArray[np.float32], text: str) -> tuple[Codes, tuple[int, ...] | None]:
        """A recording, shape (samples,) at ``sample_rate``, as codes and word starts.

        One at a time: with others in its batch, a clip's last frame may come out otherwise.

        Word starts are frames, one a word, or None for a layout without word markers.

        Raises:
            ValueError: the recording does not say ``text``, as far as can be heard.
        """
        ...

    def layers(self, targets: Sequence[str]) -> list[str]:
        """The linear layers that ``training.targets`` means, as PEFT takes them.

        Raises:
            ValueError: a target is no layer of this family.
        """
        ...

    def fit_speakers(self, clips: Sequence[PreparedClip]) -> None:
        """Get to know the data before anything is trained or said: whose voices it is in.

        Raises:
            ValueError: these clips do not fit the untouched base, and why.
        """
        ...

    def adapter_extras(self) -> AdapterExtras | None:
        """What has to be kept with an adapter; None where that is nothing."""
        ...

    def load_extras(self, extras: AdapterExtras) -> None:
        """Know again what :meth:`adapter_extras` gave, in place of meeting the data."""
        ...

    def examples(self, clips: Sequence[PreparedClip]) -> list[Example]:
        """Lay the clips out as the model reads them: by their speaker's voice, and behind the tag
        of their language where the base was loaded so.

        Raises:
            ValueError: a tag is wanted, and a clip has no language.
        """
        ...

    def collate(self, examples: Sequence[Example], terms: LossTerms = WHOLE_LOSS) -> Batch:
        """Pad to a batch on the model's device."""
        ...

    def targets(self, examples: Sequence[Example]) -> int:
        """How many positions of ``examples`` the loss is taken over."""
        ...

    def loss_sums(
        self, model: nn.Module, batches: Sequence[Batch], share: RowShare = unshared
    ) -> list[Tensor]:
        """Sum of the negative log-likelihood over all targets of each batch, float32 scalars.

        Each batch is for an adapter of its own. One forward pass serves them all, and a batch's
        loss and gradients are those it has when it comes alone.
        """
        ...

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """Say all prompts with each of ``voices`` adapters, voice by voice, in one batch.

        A clip does not depend on which others are asked for. A prompt is read as :meth:`examples`
        reads a clip of its speaker and language; the clip that comes back has its plain text.

        Raises:
            ValueError: a tag is wanted, and a prompt has no language.
        """
        ...


def frozen(model: nn.Module) -> nn.Module:
    """Freeze every parameter and switch dropout off; returns the same module."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def to_accelerator(model: nn.Module) -> None:
    """Move the model to the GPU that this process was given, if it was given one."""
    if torch.cuda.is_available():
        model.cuda()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device
