"""A short measurement on the real base and data: what packing gains, and whether it is exact."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from jobs.training.packed_host import PackedHost
from jobs.training.packing import PackingPlan, best_width, reason, slots_that_fit

_REPEATS = 3
_STEPS = 5
"""Steps in which a pack is compared with its adapters alone: most differences are rare."""
_MOST_SLOTS = 16
"""Of a host whose memory is measured; a pass of more gains nothing on any device we know."""
_PROBE = "probe"
_SMALLEST_RANK = 2
_FLOATS_AT_ONCE = {"AVX512": 32, "AVX2": 16}
"""Taken by torch's vectorised functions on a CPU: two vectors of fp32."""


def measure(
    host: PackedHost, training: TrainingSpec, batch_sizes: Sequence[int], slots: int | None
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
    ratios = {
        size: _ratios(_Probes(host, [_sized(training, size, training.rank)] * slots))
        for size in batch_sizes
    }
    widths = {size: best_width(found) for size, found in ratios.items()}
    pack = _uneven_pack(training, batch_sizes, slots)
    difference = _difference(host, pack)
    why = reason(widths, ratios, difference, _uneven_rows(host, pack))
    return PackingPlan(slots, widths, ratios, difference, why)


def _sized(training: TrainingSpec, batch_size: int, rank: int) -> TrainingSpec:
    return training.model_copy(update={"batch_size": batch_size, "rank": rank, "accumulation": 1})


def _uneven_pack(
    training: TrainingSpec, batch_sizes: Sequence[int], slots: int
) -> list[TrainingSpec]:
    """The most uneven pack: each slot has another rank and batch size than its neighbours."""
    sizes = list(dict.fromkeys([*batch_sizes, 1]))
    ranks = (training.rank, min(training.rank, _SMALLEST_RANK))
    return [
        _sized(training, sizes[(slot + 1) // 2 % len(sizes)], ranks[slot % 2])
        for slot in range(slots)
    ]


class _Probes:
    """Throw-away slots, which start again when their epoch is over."""

    def __init__(self, host: PackedHost, trainings: Sequence[TrainingSpec]) -> None:
        self._host = host
        self._trainings = {
            f"{_PROBE}{seed}": training.model_copy(update={"seed": seed})
            for seed, training in enumerate(trainings)
        }
        self.names = list(self._trainings)

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
        # Before the pass: after it there is always something that was learnt.
        for name in names:
            if self._host.epoch_is_over(name):
                self._host.detach(name)
                self._attach(name)
        started = _now()
        self._host.step(names)
        return _now() - started

    def _attach(self, name: str) -> None:
        self._host.attach(name, _trial(self._trainings[name]))


def _trial(training: TrainingSpec) -> TrialSpec:
    return TrialSpec(
        family="", base_digest="", data_digest="", training=training, engine=EngineSpec()
    )


def _ratios(probes: _Probes) -> dict[int, float]:
    """By pack size: the time of as many passes alone, over that of the pack."""
    with probes:
        sizes = [n for n in (2, 4, 8) if n < len(probes.names)] + [len(probes.names)]
        for name in probes.names:
            probes.step([name])  # the first pass of a slot also allocates its memory
        found: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(_REPEATS):
            alone = statistics.mean(probes.step([name]) for name in probes.names)
            for size in sizes:
                found[size].append(alone * size / probes.step(probes.names[:size]))
    return {size: statistics.median(ratios) for size, ratios in found.items()}


def _difference(host: PackedHost, pack: Sequence[TrainingSpec]) -> float:
    """Largest |packed - alone| over the weights and moments of the adapters at a pack's two ends.

    Moments are gradients: where weights have made few steps, Adam hides a small difference in them.
    """
    probes = _Probes(host, pack)
    watched = list(dict.fromkeys([*probes.names[:2], *probes.names[-2:]]))
    with probes:
        for _ in range(_STEPS):
            probes.step(probes.names)
        packed = {name: _state(host, name) for name in watched}
    found = []
    with probes:
        for name in watched:
            for _ in range(_STEPS):
                probes.step([name])
            alone = _state(host, name)
            found += [(packed[name][key] - alone[key]).abs().max() for key in alone]
    return torch.stack(found).max().item()


def _state(host: PackedHost, name: str) -> dict[str, Tensor]:
    """Weights and optimiser moments of a slot."""
    snapshot = host.snapshot(name)
    weights = {f"weights of {key}": tensor for key, tensor in snapshot.adapter.weights.items()}
    return weights | {f"moments {key}": tensor for key, tensor in snapshot.moments.items()}


class _ActivationWidths(TorchFunctionMode):
    """Records the widths of the rows that silu and sigmoid are applied to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (what func gives)
        """Called by torch in place of ``func``."""
        if getattr(func, "__name__", "") in ("silu", "sigmoid") and args[0].dim():
            self.found.add(args[0].shape[-1])
        return func(*args, **(kwargs or {}))


def _uneven_rows(host: PackedHost, pack: Sequence[TrainingSpec]) -> str:
    """What in the base's widths makes a value depend on its place; empty when nothing does."""
    cpu = "" if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    at_once = _FLOATS_AT_ONCE.get(cpu, 1)
    with _Probes(host, pack[:1]) as probes, _ActivationWidths() as widths:
        probes.step(probes.names)
    uneven = sorted(width for width in widths.found if width % at_once)
    if not uneven:
        return ""
    return (
        f"silu or sigmoid is applied to rows {', '.join(map(str, uneven))} wide, no multiple of "
        f"the {at_once} floats that this CPU takes at once, so that a value depends on its place"
    )


def _slots_by_memory(host: PackedHost, training: TrainingSpec) -> int:
    if not torch.cuda.is_available():
        raise ValueError("slots can be found by memory on a GPU alone: say how many in the spec")
    free, _ = torch.cuda.mem_get_info()
    before = torch.cuda.memory_allocated()
    with _Probes(host, [_sized(training, training.batch_size, training.rank)]) as probes:
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
