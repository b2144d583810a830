"""The ranks of one host, which train every slot together and act as one host."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import ray
from ray.actor import ActorProxy
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.preemption import end_with_raylet
from cluster.storage.base import StorageKey, open_storage
from cluster.storage.committed import DamagedError
from jobs.spec.trial import EngineSpec, HostSpec, TrainingSpec
from jobs.training.epochs import DivergedError, SlotGoneError
from jobs.training.launcher import forget_launcher

if TYPE_CHECKING:
    from jobs.training.host import Host

P = ParamSpec("P")
T = TypeVar("T")

_OF_ONE_SLOT = (DivergedError, SlotGoneError, DamagedError)
"""What every rank raises alike, and goes on after."""

End = Callable[[str], None]
"""Ends the host's process for the given reason."""


@dataclass(frozen=True)
class HostTask:
    """What every host of a sweep loads and measures itself with."""

    host: HostSpec
    engine: EngineSpec
    storage_url: str
    data_key: StorageKey
    slots: int | None
    """Adapters it may hold at once; None is as many as its memory takes, measured."""
    training: TrainingSpec
    """Of the largest adapter that will come, to measure with."""
    batch_sizes: tuple[int, ...]
    """Those that the sweep's trials may have."""
    provenance: str
    """By what right the voice is used, for every clip's metadata."""
    lease_seconds: float
    """A lease that nobody renews for so long is ended."""


def _load(task: HostTask) -> "Callable[[int, str | None], Host]":
    """Load base and data: all that can fail of a rank by itself. Imports torch.

    Returns:
        What meets the other ranks, as the rank with this number, at this address.
    """
    forget_launcher()
    from jobs.data.prepared.files import read_prepared
    from jobs.families.registry import load_base
    from jobs.training.engine.start import start_distributed
    from jobs.training.host import Host

    storage = open_storage(task.storage_url)
    base = load_base(task.host)
    clips = read_prepared(storage.fetch(task.data_key))

    def join(rank: int, address: str | None) -> Host:
        start_distributed(rank, task.engine.ranks, address)
        return Host(base, clips, task.engine, storage)

    return join


class PeerActor:
    """A rank above 0, in a process of its own."""

    def __init__(self, task: HostTask, rank: int) -> None:
        end_with_raylet()
        self._task, self._rank = task, rank
        self._failed = threading.Event()
        self._reason = ""

    @ray.method
    def load(self) -> None:
        """Load base and data."""
        self._join = _load(self._task)

    @ray.method
    def join(self, address: str | None) -> None:
        """Meet the other ranks at ``address``."""
        with self._noting_failure("joining"):
            self._host = self._join(self._rank, address)

    @ray.method
    def call(
        self,
        method: Callable[..., object],
        arguments: tuple[object, ...],
        options: Mapping[str, object],
    ) -> None:
        """Call a method of the host; rank 0 has the result, and the error that is a slot's own."""
        with suppress(*_OF_ONE_SLOT), self._noting_failure(method.__name__):
            method(self._host, *arguments, **options)

    @ray.method(concurrency_group="death")
    def wait_for_failure(self) -> str:
        """Why this rank does no longer what the others do; fails when the process dies."""
        self._failed.wait()
        return self._reason

    @contextmanager
    def _noting_failure(self, doing: str) -> Iterator[None]:
        """The others wait for this rank, so they must hear at once that it failed."""
        try:
            yield
        except _OF_ONE_SLOT:
            raise
        except Exception as error:
            self._reason = f"{doing} failed on rank {self._rank}: {error!r}"
            self._failed.set()
            raise


class RankGroup:
    """Rank 0 in this process and the others beside it: a
    :class:`jobs.training.packed_host.PackedHost`.

    ``end`` is told why the group cannot go on. Ranks that no longer do the same wait for each other
    for ever, so there is no way back but a new start of all.
    """

    def __init__(self, task: HostTask, end: End) -> None:
        self._end = end
        self._peers = [_start_peer(task, rank) for rank in range(1, task.engine.ranks)]
        loading = [peer.load.remote() for peer in self._peers]
        join = _load(task)
        ray.get(loading)
        # From here on the ranks wait for each other, and only a death tells that one is gone.
        for peer in self._peers:
            threading.Thread(target=self._watch, args=(peer,), name="peer", daemon=True).start()
        address = _free_address() if self._peers else None
        joining = [peer.join.remote(address) for peer in self._peers]
        self._host = host = join(0, address)
        ray.get(joining)
        rank = type(host)
        self.attach = self._on_every_rank(rank.attach)
        self.detach = self._on_every_rank(rank.detach)
        self.step = self._on_every_rank(rank.step)
        self.end_epoch = self._on_every_rank(rank.end_epoch)
        self.snapshot = self._on_every_rank(rank.snapshot)
        self.speak = self._on_every_rank(rank.speak)
        self.answer = self._on_every_rank(rank.answer)
        # Which every rank knows by itself.
        self.epoch_is_over, self.is_within_step = host.epoch_is_over, host.is_within_step

    def _on_every_rank(self, method: "Callable[Concatenate[Host, P], T]") -> Callable[P, T]:
        """Of a method of one rank, that which calls it on all at once and gives rank 0's result."""

        def call(*arguments: P.args, **options: P.kwargs) -> T:
            pending = [peer.call.remote(method, arguments, options) for peer in self._peers]
            try:
                try:
                    result = method(self._host, *arguments, **options)
                except _OF_ONE_SLOT:
                    ray.get(pending)
                    raise
                # Not where it failed: the others may wait for this rank. They end with it.
                ray.get(pending)
            except _OF_ONE_SLOT:
                raise
            except Exception as error:
                if self._peers:
                    self._end(f"{method.__name__} failed on a rank: {error!r}")
                raise
            return result

        return call

    def _watch(self, peer: ActorProxy[PeerActor]) -> None:
        try:
            self._end(ray.get(peer.wait_for_failure.remote()))
        except ray.exceptions.RayActorError as error:
            self._end(f"a rank died: {error}")


def _start_peer(task: HostTask, rank: int) -> ActorProxy[PeerActor]:
    """An actor in bundle ``rank`` of this actor's placement group; it dies with this process."""
    group = ray.util.get_current_placement_group()
    assert group is not None, "a host of several ranks runs in a placement group"
    bundle = group.bundle_specs[rank]
    actor = ray.remote(concurrency_groups={"death": 1})(PeerActor)  # type: ignore[call-overload]  # Ray's stubs lack it, and options() refuses it
    peer: ActorProxy[PeerActor] = actor.options(
        num_cpus=bundle.get("CPU", 0),
        num_gpus=bundle.get("GPU", 0),
        max_restarts=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=rank
        ),
    ).remote(task, rank)
    return peer


def _free_address() -> str:
    """``host:port`` on this node for the ranks to meet at."""
    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
