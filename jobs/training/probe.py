"""A short measurement on the real base and data: what packing gains, and whether it is exact."""

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from jobs.training.packing import PackingPlan, best_width, reason, slots_that_fit

if TYPE_CHECKING:
    from jobs.training.loop import PackedHost

_REPEATS = 3
_MOST_SLOTS = 16
"""Of a host whose memory is measured; a pass of more gains nothing on any device we know."""
_PROBE = "probe"


def measure(
    host: "PackedHost", training: TrainingSpec, batch_sizes: Sequence[int], slots: int | None
) -> PackingPlan:
    """Time passes of several slots against the same slots one after another.

    Args:
        host: without slots; it is left so.
        training: of the largest adapter that will come.
        batch_sizes: that will come.
        slots: how many the host is to hold; None for as many as its GPU's memory allows.

    Raises:
        ValueError: the slots are to be found by memory, and there is no GPU.
    """
    if slots is None:
        largest = training.model_copy(update={"batch_size": max(batch_sizes)})
        slots = _slots_by_memory(host, largest)
    if slots == 1:
        why = "one slot a host: trials run one after another"
        return PackingPlan(1, dict.fromkeys(batch_sizes, 1), {}, 0.0, why)
    ratios = {size: _ratios(_Probes(host, training, size, slots)) for size in batch_sizes}
    widths = {size: best_width(found) for size, found in ratios.items()}
    difference = max(_difference(host, training, size, slots) for size in batch_sizes)
    return PackingPlan(slots, widths, ratios, difference, reason(widths, ratios, difference))


class _Probes:
    """Slots with adapters that nobody wants, which are put back to their start when needed."""

    def __init__(
        self, host: "PackedHost", training: TrainingSpec, batch_size: int, count: int
    ) -> None:
        self._host = host
        self._training = training.model_copy(update={"batch_size": batch_size, "accumulation": 1})
        self.names = [f"{_PROBE}{i}" for i in range(count)]

    def __enter__(self) -> "_Probes":
        try:
            for name in self.names:
                self._attach(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            self._host.detach(name)

    def step(self, names: Sequence[str]) -> float:
        """One pass of these slots; its cost in seconds."""
        started = _now()
        self._host.step(names)
        seconds = _now() - started
        for name in names:
            if self._host.epoch_is_over(name):
                self._host.detach(name)
                self._attach(name)
        return seconds

    def _attach(self, name: str) -> None:
        seed = int(name.removeprefix(_PROBE))
        training = self._training.model_copy(update={"seed": seed})
        self._host.attach(name, _trial(training))


def _trial(training: TrainingSpec) -> TrialSpec:
    return TrialSpec(
        family="", base_digest="", data_digest="", training=training, engine=EngineSpec()
    )


def _ratios(probes: _Probes) -> dict[int, float]:
    """By pack size: the time of as many passes alone, over that of the pack."""
    with probes:
        sizes = [n for n in (2, 4, 8) if n < len(probes.names)] + [len(probes.names)]
        for name in probes.names:
            probes.step([name])  # the first pass of a slot also makes its optimiser's state
        found: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(_REPEATS):
            alone = statistics.mean(probes.step([name]) for name in probes.names)
            for size in sizes:
                found[size].append(alone * size / probes.step(probes.names[:size]))
    return {size: statistics.median(ratios) for size, ratios in found.items()}


def _difference(host: "PackedHost", training: TrainingSpec, batch_size: int, width: int) -> float:
    """Largest |packed - alone| over the weights of the adapter that stands in a pack's middle."""
    found = []
    for pack in (False, True):
        with _Probes(host, training, batch_size, width) as probes:
            watched = probes.names[width // 2]
            for _ in range(_REPEATS):
                probes.step(probes.names if pack else [watched])
            found.append(host.weights(watched))
    alone, packed = found
    return max((packed[key] - alone[key]).abs().max().item() for key in alone)


def _slots_by_memory(host: "PackedHost", training: TrainingSpec) -> int:
    if not torch.cuda.is_available():
        raise ValueError("slots can be found by memory on a GPU alone: say how many in the spec")
    free, _ = torch.cuda.mem_get_info()
    before = torch.cuda.memory_allocated()
    with _Probes(host, training, training.batch_size, 1) as probes:
        probes.step(probes.names)
        adapter = torch.cuda.memory_allocated() - before
        torch.cuda.reset_peak_memory_stats()
        probes.step(probes.names)
        activations = torch.cuda.max_memory_allocated() - before - adapter
    return min(_MOST_SLOTS, slots_that_fit(free, adapter, activations))


def _now() -> float:
    """Seconds of a GPU's wall clock once it is idle, or of this process's work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
