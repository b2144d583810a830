"""The ranks that train one trial together: this process and, beyond one rank, actors beside it."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.storage import open_storage
from jobs.spec import DecodingSpec, HostSpec, PromptSpec, TrialSpec
from jobs.training.epochs import EpochLosses

if TYPE_CHECKING:
    from jobs.metrics.base import SpokenClip


class RankHost:
    """The Host of one rank, with its place in the process group."""

    def __init__(
        self,
        spec: HostSpec,
        storage_url: str,
        data_key: str,
        rank: int = 0,
        world_size: int = 1,
        address: str | None = None,
    ) -> None:
        from jobs.data.prepared import read_prepared
        from jobs.families.registry import load_base
        from jobs.training.engine import start_distributed
        from jobs.training.host import Host

        start_distributed(rank, world_size, address)
        self._storage = open_storage(storage_url)
        self._host = Host(load_base(spec), read_prepared(self._storage.fetch(data_key)))

    def attach(self, trial: TrialSpec, checkpoint: str | None) -> None:
        """Put the trial in the slot, fresh or from the checkpoint with this key."""
        self._host.attach(trial, self._storage.fetch(checkpoint) if checkpoint else None)

    def advance(self) -> EpochLosses:
        """See :meth:`jobs.training.host.Host.advance`."""
        return self._host.advance()

    def save(self, losses: EpochLosses, directory: Path | None = None) -> None:
        """See :meth:`jobs.training.host.Host.save`."""
        self._host.save(directory, losses)

    def speak(
        self, prompts: Sequence[PromptSpec], decoding: DecodingSpec, lora_scale: float
    ) -> "list[SpokenClip]":
        """See :meth:`jobs.training.host.Host.speak`."""
        return self._host.speak(prompts, decoding, lora_scale)


class HostGroup:
    """One Host a rank, all doing the same; started when first needed, then kept warm.

    Rank 0 lives in this process. The others are Ray actors in the same placement group, whose
    bundle i is for rank i.
    """

    def __init__(self, spec: HostSpec, storage_url: str, data_key: str, ranks: int) -> None:
        self._loaded = (spec, storage_url, data_key)
        self._ranks = ranks
        self._storage = open_storage(storage_url)
        self._own: RankHost | None = None
        self._peers: list[Any] = []

    def attach(self, trial: TrialSpec, checkpoint: str | None) -> None:
        """Put the trial in every rank's slot."""
        self._start()
        self._everywhere("attach", trial, checkpoint)

    def advance(self) -> EpochLosses:
        """Train one epoch.

        Raises:
            jobs.training.host.DivergedError: the loss stopped being finite.
        """
        losses: EpochLosses = self._everywhere("advance")
        return losses

    def commit(self, key: str, losses: EpochLosses) -> None:
        """Commit the slot as the checkpoint ``key``."""
        with self._storage.commit(key) as directory:
            self._everywhere("save", losses, own={"directory": directory})

    def speak(
        self, key: str, prompts: Sequence[PromptSpec], decoding: DecodingSpec, lora_scale: float
    ) -> None:
        """Say the prompts at ``lora_scale`` and commit the clips to ``key``."""
        from jobs.speech.clips import write_clips

        clips = self._everywhere("speak", prompts, decoding, lora_scale)
        with self._storage.commit(key) as directory:
            write_clips(directory, prompts, clips)

    def _everywhere(
        self, method: str, *arguments: object, own: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 (what the method gives)
        """Call a method on every rank at once and give rank 0's result."""
        pending = [getattr(peer, method).remote(*arguments) for peer in self._peers]
        result = getattr(self._own, method)(*arguments, **(own or {}))
        ray.get(pending)
        return result

    def _start(self) -> None:
        if self._own is not None:
            return
        address = _free_address() if self._ranks > 1 else None
        self._peers = [self._peer(rank, address) for rank in range(1, self._ranks)]
        self._own = RankHost(*self._loaded, 0, self._ranks, address)

    def _peer(self, rank: int, address: str | None) -> Any:  # noqa: ANN401 (an actor handle)
        group = ray.util.get_current_placement_group()
        assert group is not None, "Ray Tune runs every trial in a placement group"
        bundle = group.bundle_specs[rank]
        actor = ray.remote(num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0))(RankHost)
        placed = actor.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=rank
            )
        )
        return placed.remote(*self._loaded, rank, self._ranks, address)


def _free_address() -> str:
    """``host:port`` on this node for the ranks to meet at."""
    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
