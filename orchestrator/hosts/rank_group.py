"""The ranks of one host, which train every slot together and act as one host."""

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.preemption import end_with_raylet
from cluster.storage.base import open_storage
from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.epochs import DivergedError, EpochLosses, SlotGoneError
from jobs.training.voice import Voice

if TYPE_CHECKING:
    from jobs.clips import SpokenClip
    from jobs.training.checkpoint import Snapshot
    from jobs.training.host import Host
    from orchestrator.hosts.launch import HostTask


class Rank:
    """The Host of one rank. Its checkpoints are named by key: each rank reads the storage itself.

    Nothing is imported or loaded before :meth:`load`.
    """

    def __init__(self, task: "HostTask") -> None:
        self._task = task
        self._storage = open_storage(task.storage_url)
        self._host: Host | None = None

    def load(self) -> None:
        """Load base and data: all that can fail of a rank by itself."""
        from jobs.data.prepared.files import read_prepared
        from jobs.families.registry import load_base

        self._base = load_base(self._task.host)
        self._clips = read_prepared(self._storage.fetch(self._task.data_key))

    def join(self, rank: int, address: str | None) -> None:
        """Meet the other ranks at ``address``."""
        from jobs.training.engine.start import start_distributed
        from jobs.training.host import Host

        start_distributed(rank, self._task.engine.ranks, address)
        self._host = Host(self._base, self._clips, self._task.engine)

    def attach(self, slot: str, trial: TrialSpec, checkpoint: Path | None) -> None:
        """See :meth:`jobs.training.host.Host.attach`; ``checkpoint`` is a key."""
        if checkpoint is None:
            self.host.attach(slot, trial, None)
            return
        with self._storage.borrow(str(checkpoint)) as directory:
            self.host.attach(slot, trial, directory)

    def call(self, method: str, arguments: Sequence[object]) -> Any:  # noqa: ANN401 (its result)
        """Call a method of the host."""
        return getattr(self if method == "attach" else self.host, method)(*arguments)

    @property
    def host(self) -> "Host":
        assert self._host is not None, "join comes first"
        return self._host


class PeerActor:
    """A rank above 0, in a process of its own."""

    def __init__(self, task: "HostTask", rank: int) -> None:
        end_with_raylet()
        self._rank = Rank(task)
        self._number = rank

    def load(self) -> None:
        """See :meth:`Rank.load`."""
        self._rank.load()

    def join(self, address: str) -> None:
        """See :meth:`Rank.join`."""
        self._rank.join(self._number, address)

    def call(self, method: str, arguments: Sequence[object]) -> None:
        """Do what rank 0 does; it has the result, and the error that is a slot's own."""
        try:
            self._rank.call(method, arguments)
        except (DivergedError, SlotGoneError):
            return

    @ray.method(concurrency_group="stay")
    def stay(self) -> None:
        """Never returns: the call fails when the process dies."""
        threading.Event().wait()


class RankGroup:
    """Rank 0 in this process and the others beside it: a :class:`jobs.training.loop.PackedHost`.

    ``end`` is told why the group cannot go on. Ranks that no longer do the same wait for each other
    for ever, so there is no way back but a new start of all.
    """

    def __init__(self, task: "HostTask", end: Callable[[str], None]) -> None:
        self._end = end
        self._own = Rank(task)
        self._peers = [_start_peer(task, rank) for rank in range(1, task.engine.ranks)]
        loading = [peer.load.remote() for peer in self._peers]
        self._own.load()
        ray.get(loading)
        # From here on the ranks wait for each other, and only the watch tells when one is gone.
        for peer in self._peers:
            threading.Thread(target=self._watch, args=(peer,), name="peer", daemon=True).start()
        address = _free_address() if self._peers else None
        joining = [peer.join.remote(address) for peer in self._peers]
        self._own.join(0, address)
        ray.get(joining)

    def attach(self, slot: str, trial: TrialSpec, checkpoint: Path | None = None) -> None:
        """``checkpoint`` is a key of the storage."""
        self._everywhere("attach", slot, trial, checkpoint)

    def detach(self, slot: str) -> None:
        self._everywhere("detach", slot)

    def step(self, slots: Sequence[str]) -> Mapping[str, DivergedError]:
        lost: Mapping[str, DivergedError] = self._everywhere("step", slots)
        return lost

    def epoch_is_over(self, slot: str) -> bool:
        return self._own.host.epoch_is_over(slot)

    def is_within_step(self, slot: str) -> bool:
        return self._own.host.is_within_step(slot)

    def end_epoch(self, slot: str) -> EpochLosses:
        losses: EpochLosses = self._everywhere("end_epoch", slot)
        return losses

    def weights(self, slot: str) -> dict[str, Any]:
        weights: dict[str, Any] = self._everywhere("weights", slot)  # tensors
        return weights

    def snapshot(self, slot: str) -> "Snapshot":
        snapshot: Snapshot = self._everywhere("snapshot", slot)
        return snapshot

    def speak(
        self, voices: Sequence[Voice], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> "list[list[SpokenClip]]":
        clips: list[list[SpokenClip]] = self._everywhere("speak", voices, prompts, decoding)
        return clips

    def _everywhere(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 (its result)
        """Call a method on every rank at once and give rank 0's result."""
        pending = [peer.call.remote(method, arguments) for peer in self._peers]
        try:
            try:
                return self._own.call(method, arguments)
            finally:
                ray.get(pending)
        except (DivergedError, SlotGoneError):
            raise
        except Exception as error:
            if self._peers:
                self._end(f"{method} failed on a rank: {error!r}")
            raise

    def _watch(self, peer: Any) -> None:  # noqa: ANN401 (an actor handle)
        try:
            ray.get(peer.stay.remote())
        except ray.exceptions.RayActorError as error:
            self._end(f"a rank died: {error}")


def _start_peer(task: "HostTask", rank: int) -> Any:  # noqa: ANN401 (an actor handle)
    """An actor in bundle ``rank`` of this actor's placement group; it dies with this process."""
    group = ray.util.get_current_placement_group()
    assert group is not None, "a host of several ranks runs in a placement group"
    bundle = group.bundle_specs[rank]
    actor = ray.remote(concurrency_groups={"stay": 1})(PeerActor)  # type: ignore[call-overload]  # Ray's stubs lack it, and options() refuses it
    placed = actor.options(
        num_cpus=bundle.get("CPU", 0),
        num_gpus=bundle.get("GPU", 0),
        max_restarts=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=rank
        ),
    )
    return placed.remote(task, rank)


def _free_address() -> str:
    """``host:port`` on this node for the ranks to meet at."""
    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
