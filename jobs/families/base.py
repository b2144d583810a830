"""The interface between a family and training, speech and scoring.

Notation: b clips in a batch, s tokens, v vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    """How a family whose loss has several parts adds them up; others have no use for it."""

    acoustic_weight: float = ACOUSTIC_WEIGHT
    acoustic_share: float = 1.0
    """See :class:`jobs.spec.trial.TrainingSpec`."""
    stop_weight: float = 1.0
    """See :class:`jobs.spec.trial.TrainingSpec`."""
    draw: torch.Generator | None = None
    """Where the share and the noise of a loss are drawn from, on the model's device. None: the
    share is drawn from torch's own generator, and noise follows from the clip alone, as validation
    needs it."""


WHOLE_LOSS = LossTerms()
"""As validation takes it, whatever a trial trains on: trials can then be compared."""


@dataclass(frozen=True)
class AdapterExtras:
    """What is saved with an adapter, so that it speaks wherever the base is installed."""

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

    @property
    def digest(self) -> str:
        """SHA-256 over weights, tokenizer and layout."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of the recordings that it learns from."""

    @property
    def speech_rate(self) -> int:
        """Samples per second of what it speaks."""

    @property
    def rules(self) -> DataRules:
        """What the family asks of its data."""

    @property
    def encoder_digest(self) -> str:
        """SHA-256 over what :meth:`encode` depends on besides its arguments."""

    @property
    def loss_parts(self) -> tuple[str, ...]:
        """What the loss is the sum of, by name; empty where it has one part."""

    @property
    def aligns(self) -> bool:
        """Whether :meth:`encode` looks for the words of the text; if not, it does not read it."""

    def voice_of(self, speaker: str | None) -> str | None:
        """The base's own voice that stands for ``speaker`` in a prompt.

        For an unknown speaker, the voice that the base was loaded with. None where the base has no
        named voices: it is then conditioned on recordings of the speaker, or on nothing.
        """

    def encode(self, audio: NDArray[np.float32], text: str) -> tuple[Codes, tuple[int, ...] | None]:
        """A recording, shape (samples,) at ``sample_rate``, as codes and word starts.

        Recordings are encoded one at a time: in a batch, a clip's last frame may differ.

        Word starts are frames, one a word, or None for a layout without word markers.

        Raises:
            ValueError: ``text`` cannot be aligned to the recording.
        """

    def layers(self, targets: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
        """The whole names, in ``model``, of the linear layers that a training adapts.

        Args:
            targets: as ``training.targets``.
            blocks: as ``training.layers_to_transform``.

        Raises:
            ValueError: a target means no layer, or a block has none.
        """

    def fit_speakers(self, clips: Sequence[PreparedClip]) -> None:
        """Compute what the base needs of each speaker in ``clips``, before training or speaking.

        Raises:
            ValueError: the clips do not fit the pretrained base.
        """

    def adapter_extras(self) -> AdapterExtras | None:
        """What to save with an adapter; None for nothing."""

    def load_extras(self, extras: AdapterExtras) -> None:
        """Restore what :meth:`adapter_extras` gave, in place of :meth:`fit_speakers`."""

    def examples(self, clips: Sequence[PreparedClip]) -> list[Example]:
        """The clips as the model reads them: in their speaker's voice, and behind their language's
        tag where the base was loaded with ``language_tag``.

        Raises:
            ValueError: a tag is wanted, and a clip has no language.
        """

    def collate(self, examples: Sequence[Example], terms: LossTerms = WHOLE_LOSS) -> Batch:
        """Pad to a batch on the model's device."""

    def targets(self, examples: Sequence[Example]) -> int:
        """How many positions of ``examples`` the loss is taken over."""

    def loss_sums(
        self, model: nn.Module, batches: Sequence[Batch], share: RowShare = unshared
    ) -> list[Tensor]:
        """The loss of each batch, summed over all of its targets, float32: a scalar, or (p,) where
        it has p parts, which add up to it.

        Each batch is for an adapter of its own. One forward pass serves them all, and a batch's
        loss and gradients are those it has when it comes alone.
        """

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """Say all prompts with each of ``voices`` adapters, voice by voice, in one batch.

        A clip does not depend on the rest of the batch. A prompt is read as :meth:`examples` reads
        a clip of its speaker and language; the returned clip has the plain text.

        Raises:
            ValueError: a tag is wanted, and a prompt has no language.
        """


@runtime_checkable
class SpeechTokens(Protocol):
    """A base whose tokens of speech have rows in its embedding and its head, and so can be trained
    (``training.speech_rows``); not every family has them."""

    @property
    def speech_ids(self) -> Sequence[int]:
        """Ids of the tokens that the layout has beside words: codes, their frame, markers."""


@runtime_checkable
class StreamingBase(Protocol):
    """A base that gives a clip piece by piece while it generates it."""

    def speak_stream(
        self,
        model: nn.Module,
        prompt: PromptSpec,
        decoding: DecodingSpec,
        share: RowShare = unshared,
    ) -> Iterator[SpokenClip]:
        """Pieces of the clip that :meth:`FrozenBase.speak` gives of ``prompt``, in their order.

        The last one, which may be without samples, says whether the end was reached. The adapter
        stays attached until then.
        """


@runtime_checkable
class TextBase(Protocol):
    """A base whose backbone still has its head over the tokens of text, and so can be asked what it
    has kept of them; not every family has one."""

    def text_example(self, context: str, continuation: str) -> Example:
        """Plain text as ids and labels, whose loss is the negative log-likelihood of the
        continuation, given the context; tokens as the model had them before it knew speech."""


@runtime_checkable
class DiffusionSide(Protocol):
    """A base with a diffusion decoder, whose adapters may have a rank of their own
    (``training.dit_rank``); not every family has one."""

    def diffusion_layers(self, names: Sequence[str]) -> list[str]:
        """Those of the layers ``names`` that are its."""


def language_tag_of(utterance: PreparedClip | PromptSpec, language_tag: bool) -> str | None:
    """The tag that stands before the text of a clip or prompt; None unless ``language_tag``.

    Raises:
        ValueError: a tag is wanted, and there is no language.
    """
    if language_tag and utterance.language is None:
        raise ValueError(f"a language tag needs a language, but {utterance.id} has none")
    return utterance.language if language_tag else None


def frozen(model: nn.Module) -> nn.Module:
    """Freeze every parameter and switch dropout off; returns the same module."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def linear_layers(model: nn.Module) -> list[str]:
    """The names of all linear layers, in the model's order; before any has an adapter."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def to_accelerator(model: nn.Module) -> None:
    """Move the model to the GPU that this process was given, if it was given one."""
    if torch.cuda.is_available():
        model.cuda()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device
