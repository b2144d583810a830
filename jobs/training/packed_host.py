"""The protocol of a host, on which several slots train and speak together. No torch in here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cluster.storage.base import StorageKey
from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.epochs import DivergedError, EpochLosses

if TYPE_CHECKING:
    from torch import Generator

    from jobs.clips import SpokenClip
    from jobs.training.checkpoint import Snapshot


class AdapterUse(NamedTuple):
    """The adapter that rows of a batch go through, its strength and its dropout."""

    slot: str | None
    """None is the base alone."""
    lora_scale: float = 1.0
    """Times alpha / rank."""
    dropout: "Generator | None" = None
    """The generator that dropout draws from; None is no dropout, as in speech."""


class PackedHost(Protocol):
    """A :class:`jobs.training.host.Host`, or a group of ranks that acts as one."""

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None: ...
    def detach(self, slot: str) -> None: ...
    def step(self, slots: Sequence[str]) -> Mapping[str, DivergedError]: ...
    def epoch_is_over(self, slot: str) -> bool: ...
    def is_within_step(self, slot: str) -> bool: ...
    def end_epoch(self, slot: str) -> EpochLosses: ...
    def snapshot(self, slot: str) -> "Snapshot": ...
    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> "list[list[SpokenClip]]": ...
