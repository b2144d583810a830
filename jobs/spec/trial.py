"""Hyperparameters, engine and decoding, which determine a trial and its speech; without torch."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jobs.spec.data import DataSpec, MixSpec
from jobs.spec.strict import Language, Strict

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["fp32", "bf16"]
ACOUSTIC_WEIGHT = 0.3
"""As the authors of Qwen3-TTS weigh it, since their commit 680d4e9."""
_ADDED_LATER = (
    "batch_tokens",
    "acoustic_weight",
    "acoustic_share",
    "rslora",
    "layers_to_transform",
    "loraplus_lr_ratio",
    "stop_weight",
    "steps",
    "checkpoint_steps",
    "speech_rows",
    "dit_rank",
)
"""Keys that were added once trials had ids: the default value is left out of the id."""
_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_STACKS = ("talker.attention", "talker.mlp", "predictor.attention", "predictor.mlp")
_TARGETS_IN_ID = (*_LAYERS, *_STACKS)
"""The order of ``targets`` in an id; others come after them, by name."""


_NO_DORA = (
    "an adapter with a trained magnitude (DoRA) is not the base at LoRA scale 0, which is the "
    "control of every sweep, and each needs the norms of all adapted weights of its own at every "
    "pass, so that a pack has little to share"
)
REFUSED_KEYS = {"dora": _NO_DORA, "use_dora": _NO_DORA}
"""What users of PEFT may look for in ``training`` and is refused, each with the reason."""


class TrainingSpec(Strict):
    """The hyper-parameters of one adapter training; every key can be searched."""

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] | None = None
    """LoRA alpha; twice the rank when absent. The adapter's strength is alpha / rank."""
    rslora: bool = False
    """Whether the strength is alpha / sqrt(rank) instead (rsLoRA, arXiv 2312.03732)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """On the adapter's input, as in PEFT."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = _LAYERS
    """Names of the linear layers that get an adapter; neither order nor repeats count."""
    layers_to_transform: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None
    ) = None
    """Numbers of the blocks, from 0, whose ``targets`` get an adapter; null is all."""
    dit_rank: Annotated[int, Field(ge=1)] | None = None
    """LoRA rank of the layers of a diffusion decoder, whose strength is that of the others; null is
    ``rank``."""
    speech_rows: Literal["frozen", "trained"] = "frozen"
    """Whether the rows that the tokens of speech have in embedding and head are trained too."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    loraplus_lr_ratio: Annotated[float, Field(gt=0)] = 1.0
    """The learning rate of each B over that of its A (LoRA+, arXiv 2402.12354)."""
    schedule: Schedule = "constant"
    """After warm-up. Under all but ``constant`` a checkpoint depends on ``epochs`` or ``steps``."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest gradient norm of the adapter; null for none."""
    batch_size: Annotated[int, Field(ge=1)] = 4
    """Clips per micro-batch, over all ranks."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens per micro-batch at most, padding included: clips of like length then share one, up to
    ``batch_size``. Null: ``batch_size`` clips in any order."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Micro-batches per optimiser step."""
    epochs: Annotated[int, Field(ge=1)] | None = 4
    """The longest training; every epoch before it is a checkpoint of the same run. Null with
    ``checkpoint_steps``."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """The longest training in optimiser steps: with ``checkpoint_steps``, in place of epochs."""
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps from a checkpoint to the next, across the ends of epochs. Null: an epoch."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    mix: str | None = None
    """One of ``data.mixes``; null is every training clip once an epoch."""
    acoustic_weight: Annotated[float, Field(ge=0)] = ACOUSTIC_WEIGHT
    """Of the loss over the codebooks after the first, beside that over the first."""
    acoustic_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a clip's frames whose codebooks after the first are scored, drawn anew at every step."""
    stop_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the loss of stopping, beside that of the sound, in a family that writes latents."""

    @model_validator(mode="before")
    @classmethod
    def _drop_default_epochs(cls, values: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
        if isinstance(values, Mapping) and values.get("checkpoint_steps") is not None:
            return {"epochs": None, **values}
        return values

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        every = self.checkpoint_steps
        if every is None and self.steps is not None:
            raise ValueError(
                f"training.steps needs training.checkpoint_steps, got steps {self.steps} alone: "
                "say after how many steps a checkpoint follows, or give epochs"
            )
        if every is None and self.epochs is None:
            raise ValueError(
                "a training has epochs, or steps and checkpoint_steps, got none of them: give one"
            )
        if every is not None and self.epochs is not None:
            raise ValueError(
                f"a training is as long as epochs or as steps says, got epochs {self.epochs} and "
                f"checkpoint_steps {every}: delete one of the two"
            )
        if every is not None and (self.steps is None or self.steps % every):
            raise ValueError(
                f"training.steps must be a multiple of training.checkpoint_steps, {every}, got "
                f"{self.steps}: the last step is a checkpoint"
            )
        return self

    @property
    def checkpoints(self) -> int:
        """How many checkpoints the longest training has."""
        if self.checkpoint_steps is None:
            assert self.epochs is not None
            return self.epochs
        assert self.steps is not None
        return self.steps // self.checkpoint_steps

    @property
    def scaling_alpha(self) -> float:
        """Alpha with its default filled in."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def alpha_at(self, rank: int) -> float:
        """Alpha that makes a layer of this rank as strong as those of :attr:`rank`."""
        ratio = rank / self.rank
        return self.scaling_alpha * (math.sqrt(ratio) if self.rslora else ratio)

    @property
    def depends_on_horizon(self) -> bool:
        """Whether a checkpoint's weights depend on how long a training was asked for."""
        return self.schedule != "constant"

    @property
    def horizon(self) -> str:
        """Where the learning rate reaches 0, such as ``step 10000``; empty under ``constant``."""
        return place(self.checkpoints, self.checkpoint_steps) if self.depends_on_horizon else ""


class EngineSpec(Strict):
    """How DeepSpeed runs one trial. It changes the weights only by rounding, but it does that."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    ranks: Annotated[int, Field(ge=1)] = 1
    """Processes that train one adapter together, data parallel."""
    precision: Precision = "fp32"
    """Of the frozen base; adapters are always fp32."""
    gradient_checkpointing: bool = False
    """Whether blocks keep their inputs alone and are computed again for their gradients: a slot
    then needs less memory and more time. It changes no bit, so it is not in a trial's id."""


READING_KEYS = ("language_tag", "reference_prefix")
"""Of :class:`HostSpec`, those that follow from keys of ``data`` of the same names."""


class HostSpec(Strict):
    """The base and codec that a host loads."""

    family: str
    source: str
    """``embedded``, or the base's directory."""
    codec: str
    """``embedded``, or the codec's directory."""
    voice: str | None
    """Which of the base's voices is asked to become the target; None for its default."""
    precision: Precision
    language_tag: bool = False
    """Whether a text is read behind the tag of its language; see ``data.language_tag``."""
    reference_prefix: bool = False
    """Whether all is read behind a clip of its speaker; see ``data.reference_prefix``."""

    def reading(self, data: DataSpec) -> Self:
        """The same, which reads texts as ``data`` has them."""
        how = {key: getattr(data, key) for key in READING_KEYS}
        return self.model_copy(update=how)


class TrialSpec(Strict):
    """All that determines one trial's weights; the trial's id is its hash."""

    family: str
    base_digest: str
    data_digest: str
    training: TrainingSpec
    engine: EngineSpec
    mix: MixSpec | None = None
    """What ``training.mix`` names."""

    @property
    def id(self) -> str:
        """``t`` and twelve hex digits of the SHA-256 of what determines the weights."""
        spec = self.training
        blocks = spec.layers_to_transform
        filled = spec.model_copy(
            update={
                "alpha": spec.scaling_alpha,
                "dit_rank": None if spec.dit_rank == spec.rank else spec.dit_rank,
                "targets": tuple(sorted(set(spec.targets), key=_place_in_id)),
                "layers_to_transform": None if blocks is None else tuple(sorted(set(blocks))),
            }
        )
        # The content of the mix counts, not its name.
        defaults = TrainingSpec()
        left_out = {"mix"} | {k for k in _ADDED_LATER if getattr(filled, k) == getattr(defaults, k)}
        left_out |= set() if spec.depends_on_horizon else {"epochs", "steps"}
        text = self.model_copy(update={"training": filled}).model_dump_json(
            exclude={"training": left_out, "engine": {"gradient_checkpointing"}}
            | ({"mix": True} if self.mix is None else {})
        )
        return "t" + hashlib.sha256(text.encode()).hexdigest()[:12]


def place(epoch: int, checkpoint_steps: int | None) -> str:
    """Where a training stands at its checkpoint number ``epoch``, as people say it.

    >>> place(3, None), place(3, 500)
    ('epoch 3', 'step 1500')
    """
    return f"epoch {epoch}" if checkpoint_steps is None else f"step {epoch * checkpoint_steps}"


def _place_in_id(target: str) -> tuple[int, str]:
    known = target in _TARGETS_IN_ID
    return _TARGETS_IN_ID.index(target) if known else len(_TARGETS_IN_ID), target


class DecodingSpec(Strict):
    """How a variant picks its tokens."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 takes the likeliest token."""
    top_k: Annotated[int, Field(ge=1)] = 50
    """Only with a temperature above 0."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the ``top_k``, the likeliest that have this probability together; with a temperature."""
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0
    """What a token that was picked before is worth less; 1 for none. As in Hugging Face."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens (frames, where a family makes several codes at a time) at most, if that is less than
    what the family gives a text of its length."""
    cfg_value: Annotated[float, Field(gt=0)] = 2.0
    """In a family that speaks by diffusion: the strength of its guidance; 1 is none."""
    inference_timesteps: Annotated[int, Field(ge=2)] = 10
    """Likewise: the steps of the diffusion, of which the first has no effect."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Each prompt draws from its own generator, seeded by this and the prompt's id."""

    def at(self, point: Mapping[str, float]) -> "DecodingSpec":
        """The same with the values of ``point``, by key."""
        return type(self).model_validate({**self.model_dump(), **point})


BASE_VARIANT = "base"


class Variant(Strict):
    """A checkpoint at a LoRA scale: a thing that can speak. The base is a variant without one."""

    trial: str | None = None
    epoch: Annotated[int, Field(ge=0)] = 0
    """The number of the checkpoint."""
    lora_scale: Annotated[float, Field(ge=0)] = 0.0
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    """Of its training."""
    own_decoding: dict[str, int | float] = Field(default={})
    """Keys of decoding in which it differs from the sweep's; none where it decodes as that."""

    @property
    def id(self) -> str:
        """``base``, or trial, epoch and scale: ``t0123456789ab-e03-s0.70``; where checkpoints
        are counted in steps, these: ``t0123456789ab-n01500-s0.70``. With a decoding of its own, a
        digest of that follows: ``-d89abcdef``."""
        name = BASE_VARIANT
        if self.trial is not None:
            at = f"e{self.epoch:02d}"
            if self.checkpoint_steps is not None:
                at = f"n{self.epoch * self.checkpoint_steps:05d}"
            name = f"{self.trial}-{at}-s{self.lora_scale:.2f}"
        if not self.own_decoding:
            return name
        point = {key: float(value) for key, value in self.own_decoding.items()}
        text = json.dumps(point, sort_keys=True)
        return f"{name}-d{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class PromptSpec(Strict):
    """A text to speak, and its name in a prompt set."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the clip's file too."""
    text: Annotated[str, Field(min_length=1)]
    language: Language | None = None
    """What the text is written in; None where the sweep has one language."""
    speaker: Annotated[str, Field(min_length=1)] | None = None
    """Who is meant to say it; None where the sweep has one speaker."""
