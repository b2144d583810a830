"""What is wrong with how a spec's search is guided, beyond the types of its keys."""

from collections.abc import Iterator

from jobs.problems import nearest
from orchestrator.spec.model import OBJECTIVE, SECONDS, SweepSpec
from orchestrator.spec.scoring_rules import Location
from orchestrator.verdict.protocol import GATE_METRICS


def search_problems(spec: SweepSpec) -> Iterator[tuple[Location, str, str]]:
    """Each with its place under ``search``, what it is and the next step."""
    yield from _objectives(spec)
    yield from _first(spec)
    if spec.name in spec.search.warm_start:
        what = f"search.warm_start may name earlier sweeps, got {spec.name!r}, which is this one"
        yield ("warm_start",), what, "Delete it."
    ranges = [name for name, dimension in spec.search.space.items() if not dimension.choices]
    if spec.search.sampler == "qmc" and not ranges:
        what = "search.sampler: qmc spreads points over ranges, but search.space has none"
        yield ("sampler",), what, "Write {low, high}, or take another sampler."


def _objectives(spec: SweepSpec) -> Iterator[tuple[Location, str, str]]:
    of_gates = set(GATE_METRICS)
    valid = [OBJECTIVE, SECONDS, *(m for m in spec.scoring.measured if m not in of_gates)]
    for index, name in enumerate(spec.search.objectives):
        if name not in valid:
            what = f"search.objectives may name metrics that are measured, got {name!r}"
            yield ("objectives", index), what, nearest(name, valid)


def _first(spec: SweepSpec) -> Iterator[tuple[Location, str, str]]:
    search, first = spec.search, spec.search.first
    if first is None:
        return
    if search.sampler == "grid":
        yield (
            ("first",),
            "search.first is for a part of the space, but a grid is all of it",
            ("Take another sampler, or delete it."),
        )
    if first.trials > search.trials:
        what = f"search.first.trials must be <= search.trials ({search.trials}), got {first.trials}"
        yield ("first", "trials"), what, "Lower it."
    for name, value in first.hold.items():
        dimension = search.space.get(name)
        if dimension is None:
            what = f"search.first.hold may hold searched keys, got {name}"
            yield ("first", "hold", name), what, nearest(name, list(search.space))
        elif value not in dimension.choices:
            what = f"search.first.hold.{name} must be one of the key's choices, got {value!r}"
            yield ("first", "hold", name), what, "Correct it, or write the choices as a list."
    if set(first.hold) == set(search.space):
        what = "search.first.hold leaves nothing to search in the first trials"
        yield ("first", "hold"), what, "Hold fewer keys."
