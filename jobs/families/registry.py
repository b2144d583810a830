"""The families by name. Loading a base imports its model code; asking for the names does not."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cluster.plugins import Table
from jobs.families.description import (
    CODEC_LM_RULES,
    NO_PREFIX,
    QWEN3_TTS_RULES,
    VOXCPM2_RULES,
    Family,
    TokenCounter,
    codec_directory,
    directory_of,
)
from jobs.families.qwen3_tts.description import TARGETS as QWEN3_TTS_TARGETS
from jobs.families.targets import BLOCK_PARTS, CODEC_LM_TARGETS, chosen_layers
from jobs.families.voxcpm2.description import TARGETS as VOXCPM2_TARGETS
from jobs.problems import nearest
from jobs.spec.trial import HostSpec, TrainingSpec
from jobs.vendor import QWEN_TTS, QWEN_TTS_VERSION, VOXCPM, VOXCPM_VERSION

if TYPE_CHECKING:
    from jobs.families.base import FrozenBase
    from jobs.families.size import AdapterSize, BaseSize

FAMILIES = Table(
    "voxsweep.families",
    Family,
    {
        "codec_lm": Family(
            "jobs.families.codec_lm",
            CODEC_LM_RULES,
            text="jobs.families.codec_lm_text",
            targets=CODEC_LM_TARGETS,
            embedded=True,
            speech_rows=True,
            reads_items=True,
            reference_prefix=True,
        ),
        "qwen3_tts": Family(
            "jobs.families.qwen3_tts.base",
            QWEN3_TTS_RULES,
            text="jobs.families.qwen3_tts.description",
            targets=QWEN3_TTS_TARGETS,
            packages={QWEN_TTS: QWEN_TTS_VERSION, "transformers": "4.57.3", "einops": None},
            loss_keys=frozenset({"acoustic_weight", "acoustic_share"}),
        ),
        "voxcpm2": Family(
            "jobs.families.voxcpm2.base",
            VOXCPM2_RULES,
            text="jobs.families.voxcpm2.description",
            targets=VOXCPM2_TARGETS,
            default_targets=BLOCK_PARTS["attention"][1],
            packages={VOXCPM: VOXCPM_VERSION, "einops": None, "librosa": None},
            loss_keys=frozenset({"stop_weight"}),
            writes_latents=True,
            recomputes=False,
        ),
    },
)


def open_text(spec: HostSpec) -> TokenCounter | None:
    """How the base that ``spec`` names reads texts, without its weights; None if it is elsewhere.

    Raises:
        ValueError: the family is not known or not usable, or a file of the base is malformed.
        FileNotFoundError: the base lacks a file.
        ImportError: it reads texts by a package that is not installed; with the command.
    """
    reader: TokenCounter | None = import_module(_family(spec.family).text).open_text(spec)
    return reader


def layer_names(spec: HostSpec) -> list[str] | None:
    """The base's layers that may be adapted, from its ``config.json``; None if it is elsewhere.

    Raises:
        ValueError: the family is not known or not usable, or the base is of another architecture.
        FileNotFoundError: the base has no ``config.json``.
    """
    names: list[str] | None = import_module(_family(spec.family).text).layer_names(spec)
    return names


def with_default_targets(family: Any, training: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
    """A spec's ``training`` as written, with the family's own default of ``targets`` filled in."""
    if not isinstance(training, Mapping) or "targets" in training:
        return training
    if family not in FAMILIES or FAMILIES.problem(family):
        return training  # which is reported as what it is
    own = FAMILIES[family].default_targets
    # A key that says what is so anyway would stand in every rendered spec.
    is_usual = own == TrainingSpec.model_fields["targets"].default
    return training if is_usual else {**training, "targets": own}


def check_layers(spec: HostSpec, training: TrainingSpec) -> None:
    """Check, without weights, that the base is one of its family and has all that is adapted.

    A base that was not downloaded yet is not checked.

    Raises:
        ValueError: it is not, or has not.
        FileNotFoundError: the base has no ``config.json``.
    """
    names = layer_names(spec)
    if names is not None:
        adapted_layers(spec, training, names)


def base_size(spec: HostSpec) -> "BaseSize | None":
    """How large the base is, without its weights; None where its family or this machine cannot say.

    Raises:
        ValueError: the family is not known or not usable, or a file of the base is malformed.
        FileNotFoundError: the base has no ``config.json``.
    """
    work_out = getattr(import_module(_family(spec.family).text), "base_size", None)
    size: BaseSize | None = None if work_out is None else work_out(spec)
    return size


def adapted_layers(spec: HostSpec, training: TrainingSpec, names: Sequence[str]) -> list[str]:
    """Those of the base's layers ``names`` that ``training`` adapts; raises as :func:`layer_names`
    and where a target means no layer."""
    patterns = _family(spec.family).targets
    return chosen_layers(training.targets, training.layers_to_transform, patterns, names)


def adapter_size(spec: HostSpec, training: TrainingSpec) -> "AdapterSize | None":
    """Of an adapter of ``training``; None as :func:`base_size`, raises as that and
    :func:`adapted_layers`."""
    size = base_size(spec)
    if size is None:
        return None
    return size.adapter(adapted_layers(spec, training, list(size.layers)), training)


def sample_rate(spec: HostSpec) -> int:
    """Hz of the recordings that the base learns from, without loading it.

    Raises:
        ValueError: the family is not known, or its plug-in cannot be used.
    """
    rate: int = import_module(_family(spec.family).text).sample_rate(spec)
    return rate


def speech_rate(spec: HostSpec) -> int:
    """Hz of what the base speaks, without loading it; raises as :func:`sample_rate`."""
    rate: int = import_module(_family(spec.family).text).speech_rate(spec)
    return rate


def load_base(spec: HostSpec) -> "FrozenBase":
    """Load the frozen base that ``spec`` names, with its codec.

    Raises:
        ValueError: the family or the voice is not known, or it reads nothing behind a reference.
        FileNotFoundError: a directory lacks a file that the family needs.
    """
    family = _family(spec.family)
    source = directory_of(spec.source)
    codec = codec_directory(spec)
    how = {"reference_prefix": True} if spec.reference_prefix else {}
    if how and not family.reference_prefix:
        raise ValueError(f"data.reference_prefix must be false: {spec.family} {NO_PREFIX}")
    base: FrozenBase = import_module(family.module).load(
        source, codec, spec.voice, spec.precision, spec.language_tag, **how
    )
    return base


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"family must be known, got {name!r}. {nearest(name, FAMILIES)}")
    return FAMILIES[name]
