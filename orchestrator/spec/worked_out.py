"""What a sweep takes on cards that it has not run on, worked out from shapes. Nothing is measured.

Memory is that of a rank with one slot in training: the frozen base in the engine's precision, its
codec in fp32, the largest adapter with gradient and optimiser, and what the forward pass of a
micro-batch of the longest clip keeps for the backward pass. It is a lower bound: an allocator takes
more, and speech is not counted. Hours are those of training and validation, by floating-point
operations, at a share of the card's peak that is assumed; speech and scores are not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.data.clips import TargetClip
from jobs.families.registry import adapted_layers, base_size, open_text
from jobs.families.size import BaseSize
from jobs.spec.trial import Precision
from orchestrator.spec.cost import Range
from orchestrator.spec.model import SweepSpec

_BYTES: Mapping[Precision, int] = {"fp32": 4, "bf16": 2}
_COUNTED = 512
"""Texts whose tokens are counted, evenly spaced: tens of thousands take seconds."""
SHARES = Range(0.01, 0.40)
"""Of a card's peak that training may reach. The high end is about what large transformers do (46 %,
PaLM, arXiv 2204.02311, table 3). The low end is what the recipe of docs/voxcpm2.md did: by the same
count its 1.07 steps a second on an H200 are a little more than 1 % of the peak."""


@dataclass(frozen=True)
class Card:
    """A kind of GPU."""

    name: str
    memory: float
    """GB, of 1e9 bytes."""
    peak: Mapping[Precision, float]
    """Floating-point operations a second at most, 1e12, dense, sums in fp32."""


CARDS = (
    Card("A100 80GB", 80.0, {"bf16": 312.0, "fp32": 19.5}),
    Card("RTX 4090", 24.0, {"bf16": 165.2, "fp32": 82.6}),
)
"""By NVIDIA's A100 data sheet, and its white paper on the Ada architecture."""


@dataclass(frozen=True)
class WorkedOut:
    """What one slot takes on one card."""

    card: str
    card_memory: float
    """GB, as all below."""
    memory: float
    parts: Mapping[str, float]
    """``memory`` by what it is for."""
    hours: Range
    """Of one such card: the whole search if no trial is stopped."""
    how: str
    """From which numbers."""

    @property
    def fits(self) -> bool:
        """Whether the card has more than that."""
        return self.memory < self.card_memory


def work_out(
    spec: SweepSpec, clips: Sequence[TargetClip], epochs: int, trained: int
) -> tuple[WorkedOut, ...]:
    """For each of :data:`CARDS`; none for a sweep without GPUs, or whose base is not known here.

    Args:
        spec: of the sweep.
        clips: all of its clips.
        epochs: of all trials together, at most.
        trained: clips that an epoch trains on.
    """
    if not spec.resources.gpus_per_rank:
        return ()
    size = base_size(spec.host())
    if size is None:
        return ()
    tokens, counted = _tokens(spec, clips)
    parts, longest = _memory(spec, size, tokens, clips)
    operations = epochs * _operations(spec, size, tokens, clips, trained)
    how = (
        f"{size.weights:,} weights in {spec.engine.precision}, rank "
        f"{spec.largest_training.rank}, micro-batches of {max(spec.corners('batch_size'))} clips "
        f"of {longest:.1f} s, {counted}; {operations / 1e15:,.0f} PFLOP"
    )
    found = []
    for card in CARDS:
        peak = card.peak[spec.engine.precision] * 1e12
        hours = [operations / (share * peak) / 3600 for share in (SHARES.high, SHARES.low)]
        memory = sum(parts.values())
        found.append(WorkedOut(card.name, card.memory, memory, parts, Range(*hours), how))
    return tuple(found)


def _tokens(spec: SweepSpec, clips: Sequence[TargetClip]) -> tuple[Mapping[str, float], str]:
    """Of each clip's text, by its place, and how they were counted, in words."""
    counter = open_text(spec.host())
    if counter is None:
        return {clip.row.where: len(clip.row.text) for clip in clips}, "a token a character"
    some = clips[:: max(1, len(clips) // _COUNTED)]
    characters = sum(len(clip.row.text) for clip in some)
    share = sum(counter(clip.row.text, clip.row.language) for clip in some) / max(1, characters)
    words = f"{share:.2f} tokens a character"
    return {clip.row.where: share * len(clip.row.text) for clip in clips}, words


def _memory(
    spec: SweepSpec, size: BaseSize, tokens: Mapping[str, float], clips: Sequence[TargetClip]
) -> tuple[dict[str, float], float]:
    """GB by what they are for, and the seconds of the clip that keeps most."""
    itemsize, training = _BYTES[spec.engine.precision], spec.largest_training
    names = adapted_layers(spec.host(), training, list(size.layers))

    def kept(clip: TargetClip) -> float:
        return size.activation_bytes(
            tokens[clip.row.where],
            clip.seconds * size.frame_rate,
            itemsize,
            spec.engine.gradient_checkpointing,
        )

    longest = max(clips, key=kept)
    parts = {
        "base": itemsize * size.weights,
        "codec": 4 * size.codec,
        "adapter": size.adapter(names, training).training_bytes,
        "activations": max(spec.corners("batch_size")) * kept(longest),
    }
    return {name: value / 1e9 for name, value in parts.items()}, longest.seconds


def _operations(
    spec: SweepSpec,
    size: BaseSize,
    tokens: Mapping[str, float],
    clips: Sequence[TargetClip],
    trained: int,
) -> float:
    """Of an epoch: forward and back through what learns for ``trained`` clips of the mean length,
    and forward through the validation clips."""

    def mean(split: str, passes: tuple[float, float]) -> tuple[float, int]:
        found = [
            size.operations(tokens[clip.row.where], clip.seconds * size.frame_rate, passes)
            for clip in clips
            if clip.row.split == split
        ]
        return sum(found) / max(1, len(found)), len(found)

    learning, _ = mean("train", (3.0 if spec.engine.gradient_checkpointing else 2.0, 1.0))
    validating, held_out = mean("validation", (1.0, 1.0))
    return trained * learning + held_out * validating
