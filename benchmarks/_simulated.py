"""A thousand hosts in one process: what the driver's own code talks to, in virtual time."""

import asyncio
import heapq
import json
import math
import random
import socket
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jobs.training.epochs import LOSSES_FILE, EpochLosses
from jobs.training.packing import HostProgress
from orchestrator.context import SweepContext
from orchestrator.hosts.host_actor import Heartbeat
from orchestrator.hosts.served_leases import ClockReading
from orchestrator.ledger import Ledger

KEYS_A_LISTING = 1000
"""That S3 gives at most for one request."""


class MemoryStorage:
    """A storage in memory that counts what would be requests to S3."""

    url = "memory:"

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._files: dict[str, bytes] = {}
        self._folders: defaultdict[str, set[str]] = defaultdict(set)
        self._committed: set[str] = set()

    def read(self, key: str) -> bytes:
        self.requests["get"] += 1
        if key not in self._files:
            raise FileNotFoundError(key)
        return self._files[key]

    def write(self, key: str, data: bytes) -> None:
        self.requests["put"] += 1
        self.keep(key, data)

    def exists(self, key: str) -> bool:
        self.requests["head"] += 1
        return key in self._files

    def children(self, key: str) -> list[str]:
        names = sorted(self._folders[key])
        self.requests["list"] += max(1, math.ceil(len(names) / KEYS_A_LISTING))
        return names

    def is_committed(self, key: str) -> bool:
        self.requests["head"] += 1
        return key in self._committed

    def read_from(self, key: str, name: str) -> bytes:
        return self.read(f"{key}/{name}")

    def keep(self, key: str, data: bytes) -> None:
        """Put data there as another machine does: not counted."""
        self._files[key] = data
        while "/" in key:
            folder, _, name = key.rpartition("/")
            if name in self._folders[folder]:
                return
            self._folders[folder].add(name)
            key = folder

    def commit_losses(self, key: str, losses: EpochLosses) -> None:
        """What a host commits of an epoch, as far as the driver reads it."""
        self.keep(f"{key}/{LOSSES_FILE}", json.dumps(asdict(losses)).encode())
        self._committed.add(key)


@dataclass(frozen=True)
class MemoryContext(SweepContext):
    """A sweep's context whose ledger is in memory."""

    storage: Any

    def ledger(self) -> Ledger:
        return Ledger(self.storage, self.spec.name)


class Stopwatch:
    """CPU seconds of this process, less those spent within :meth:`aside`."""

    def __init__(self) -> None:
        self._aside = 0.0

    def now(self) -> float:
        return time.process_time() - self._aside

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What the hosts do is no work of the driver's."""
        started = time.process_time()
        try:
            yield
        finally:
            self._aside += time.process_time() - started


@dataclass
class _Actor:
    """A trial's process."""

    trial: str
    epoch: int = 0
    seconds: float = 0.0


class SimulatedActors:
    """Stands in for Ray's actor manager of a TuneController: its trials' processes are entries.

    A process starts at once. One epoch lasts ``epoch_seconds``, a third more or less; with the
    probability ``loss`` its host dies in it, and the epoch begins again on another.
    """

    def __init__(
        self, context: MemoryContext, watch: Stopwatch, epoch_seconds: float, loss: float
    ) -> None:
        self._context, self._watch = context, watch
        self._epoch_seconds, self._loss = epoch_seconds, loss
        self._chance = random.Random(0)
        self._ledger = context.ledger()
        self.clock = 0.0
        self.epochs = 0
        self.losses = 0
        self._count = 0
        self._events: list[tuple[float, int, Any, Callable[[], None]]] = []
        self._turn: Counter[Any] = Counter()
        """By actor; what was scheduled in an earlier turn is void."""
        self._pending: dict[Any, dict[str, Any]] = {}
        self._actors: dict[Any, _Actor] = {}
        self._live_actors_to_ray_actors_resources: dict[Any, tuple[Any, None]] = {}
        nothing = SimpleNamespace(remote=lambda **_: {})
        self._handle = SimpleNamespace(get_auto_filled_metrics=nothing)

    # what TuneController calls

    @property
    def num_live_actors(self) -> int:
        return len(self._actors)

    @property
    def num_pending_actors(self) -> int:
        return len(self._pending)

    @property
    def num_total_actors(self) -> int:
        return len(self._actors) + len(self._pending)

    @property
    def num_actor_tasks(self) -> int:
        return len(self._events)

    def is_actor_started(self, tracked_actor: Any) -> bool:  # noqa: ANN401
        return tracked_actor in self._actors

    def is_actor_failed(self, tracked_actor: Any) -> bool:  # noqa: ANN401
        return False

    def add_actor(
        self,
        cls: object,
        resource_request: object,
        kwargs: dict[str, Any],
        on_start: Any,  # noqa: ANN401
        on_stop: Any,  # noqa: ANN401
        on_error: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        from ray.air.execution._internal.tracked_actor import TrackedActor

        made = TrackedActor(uuid.uuid4().int, on_start=on_start, on_stop=on_stop, on_error=on_error)
        self._pending[made] = kwargs["config"]
        self._at(0.0, made, lambda: self._start(made))
        return made

    def remove_actor(
        self,
        tracked_actor: Any,  # noqa: ANN401
        kill: bool = False,
        stop_future: object = None,
    ) -> bool:
        self._turn[tracked_actor] += 1
        if self._pending.pop(tracked_actor, None) is not None:
            return False
        self._at(0.0, tracked_actor, lambda: self._end(tracked_actor))
        return True

    def clear_actor_task_futures(self, tracked_actor: Any) -> None:  # noqa: ANN401
        self._turn[tracked_actor] += 1

    def schedule_actor_task(
        self,
        tracked_actor: Any,  # noqa: ANN401
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: object = None,
        on_result: Any = None,  # noqa: ANN401
        on_error: object = None,
        _return_future: bool = False,
    ) -> object:
        if method_name == "train":
            lasts = self._epoch_seconds * self._chance.uniform(2 / 3, 4 / 3)
            if self._chance.random() < self._loss:
                self.losses += 1
                lasts += self._epoch_seconds * self._chance.random()
            self._at(lasts, tracked_actor, lambda: self._report(tracked_actor, lasts, on_result))
        elif method_name == "reset":
            self._actors[tracked_actor] = _Actor(args[0]["trial"])
            self._at(0.0, tracked_actor, lambda: on_result(tracked_actor, True))
        return object()

    def next(self, timeout: float | None = None) -> bool:
        """Go on to the next event."""
        while self._events:
            with self._watch.aside():
                self.clock, _, (actor, turn), event = heapq.heappop(self._events)
            if turn == self._turn[actor]:
                event()
                return True
        return False

    def cleanup(self) -> None:
        self._events.clear()

    # what happens

    def _at(self, seconds: float, actor: Any, event: Callable[[], None]) -> None:  # noqa: ANN401
        self._count += 1
        turn = (actor, self._turn[actor])
        heapq.heappush(self._events, (self.clock + seconds, self._count, turn, event))

    def _start(self, actor: Any) -> None:  # noqa: ANN401
        self._actors[actor] = _Actor(self._pending.pop(actor)["trial"])
        self._live_actors_to_ray_actors_resources[actor] = (self._handle, None)
        actor._on_start(actor)

    def _end(self, actor: Any) -> None:  # noqa: ANN401
        del self._actors[actor], self._live_actors_to_ray_actors_resources[actor]
        if actor._on_stop:
            actor._on_stop(actor)

    def _report(self, actor: Any, lasted: float, on_result: Any) -> None:  # noqa: ANN401
        with self._watch.aside():
            self.epochs += 1
            result = self._train(self._actors[actor], lasted)
        on_result(actor, result)

    def _train(self, run: _Actor, lasted: float) -> dict[str, Any]:
        """An epoch, committed, as a trial's process reports it."""
        run.epoch, run.seconds = run.epoch + 1, run.seconds + lasted
        trial = self._ledger.trial(run.trial)
        good = -abs(math.log10(trial.training.learning_rate) + 3.5) + self._chance.gauss(0, 0.1)
        loss = 2.0 - good / 10 - 0.1 * math.log(run.epoch)
        losses = EpochLosses(run.epoch, loss, loss, (), (), lasted, self.clock)
        self._context.storage.commit_losses(self._ledger.checkpoint(trial.id, run.epoch), losses)
        return {
            "trial": trial.id,
            "checkpoint": self._ledger.checkpoint(trial.id, run.epoch),
            "objective": good,
            "promise": good,
            "best_variant": f"{trial.id}-e{run.epoch:02d}-s1.00",
            "measured": {"similarity": good, "dnsmos_ovrl": 3.0, "seconds": run.seconds},
            "constraints": {"dnsmos_ovrl": -0.1},
            "epoch": run.epoch,
            "training_iteration": run.epoch,
            "training_loss": loss,
            "validation_loss": loss,
            "done": run.epoch >= trial.training.epochs,
            # what Tune's Trainable adds
            "trial_id": "",
            "date": "2026-11-22_00-00-00",
            "timestamp": int(self.clock),
            "time_this_iter_s": lasted,
            "time_total_s": run.seconds,
            "pid": 1,
            "hostname": socket.gethostname(),
            "node_ip": "127.0.0.1",
            "config": {"trial": trial.id},
            "time_since_restore": run.seconds,
            "iterations_since_restore": run.epoch,
        }


class SimulatedHost:
    """A host as the pool calls it: it answers at once, until it is told to die."""

    def __init__(self, slots: int, call: Callable[[], Any]) -> None:
        """``call`` gives a future for the length of a process's life."""
        self._slots, self._call = slots, call
        self._end: Any = None
        self._heartbeat = Heartbeat(HostProgress(0, "", 0.0), ClockReading("process", 0.0), "n")

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401
        if method == "wait_for_end":
            return SimpleNamespace(remote=self._watch)
        return SimpleNamespace(remote=lambda *_: self._answer(method))

    async def _answer(self, method: str) -> Any:  # noqa: ANN401
        if method == "ready":
            return SimpleNamespace(slots=self._slots)
        return self._heartbeat if method == "renew" else [] if method == "served" else None

    def _watch(self) -> Any:  # noqa: ANN401
        self._end = self._call()
        return asyncio.wrap_future(self._end)

    def die(self) -> None:
        """End its process; the next one is there at once."""
        if self._end is not None:
            end, self._end = self._end, None
            end.set_result("its process died")


def local_folder(ledger: Ledger, folder: Path) -> None:
    """Write the sweep's trials into a folder, as a local storage keeps them."""
    for trial in ledger.trials():
        for name in ("trial.json", "result.json"):
            text = ledger.read_text(f"trials/{trial.id}/{name}")
            if text is not None:
                path = folder / ledger.path("trials", trial.id, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
