"""The protocol of a host, on which several slots train and speak together. No torch in here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from cluster.storage.base import StorageKey
from jobs.spec.items import TextItem
from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.epochs import EpochLosses
from jobs.training.packing import AdapterUse

if TYPE_CHECKING:
    from jobs.clips import ItemAnswer, SpokenClip
    from jobs.training.checkpoint import Snapshot


class PackedHost(Protocol):
    """A :class:`jobs.training.host.Host`, or a group of ranks that acts as one."""

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None: ...
    def detach(self, slot: str) -> None: ...
    def step(self, slots: Sequence[str]) -> Mapping[str, Exception]: ...
    def epoch_is_over(self, slot: str) -> bool: ...
    def is_within_step(self, slot: str) -> bool: ...
    def end_epoch(self, slot: str) -> EpochLosses: ...
    def snapshot(self, slot: str) -> "Snapshot": ...
    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> "list[list[SpokenClip]]": ...
    def answer(
        self, voices: Sequence[AdapterUse], items: Sequence[TextItem]
    ) -> "list[list[ItemAnswer]]": ...
