"""Which of a sweep's clips its page plays: few enough to travel inside it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import FailedClip, Verdict
from orchestrator.verdict.protocol import Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo

COMPARED_PROMPTS = 8
"""Prompts played side by side in the base, the winner and the runner-up."""
GRID_PROMPTS = 3
"""Prompts played in every trial at every lora_scale: a short, a middling and a long one."""
GRID_TRIALS = 12
FRESH_PROMPTS = 5
"""Prompts of set B played in the base and in every finalist."""
FAILED_OF_ONE = 3
"""Failed clips played of one variant: a broken one has many, and they sound alike."""
FAILED = 9


@dataclass(frozen=True)
class FailedTake:
    """A failed clip to listen to, and whose it is."""

    variant: str
    clip: FailedClip


@dataclass(frozen=True)
class ClipSelection:
    """What a page plays."""

    compared: Mapping[str, str]
    """Variant id to its role, in the order of the columns."""
    prompts: tuple[Prompt, ...]
    """Spoken by every compared variant."""
    scales: tuple[float, ...]
    """The columns of the grid."""
    grid: tuple[tuple[VariantInfo, ...], ...]
    """The rows of the grid, best trial first: one epoch of a trial at each scale."""
    grid_prompts: tuple[Prompt, ...]
    failed: tuple[FailedTake, ...]
    fresh: tuple[str, ...]
    """The base and the finalists, which were evaluated on set B."""
    fresh_prompts: tuple[Prompt, ...]

    def clips(self) -> dict[str, list[str]]:
        """Variant id to the ids of the prompts that are played of it."""
        wanted: dict[str, dict[str, None]] = {}
        for variant, prompt in self._pairs():
            wanted.setdefault(variant, {})[prompt] = None
        return {variant: list(prompts) for variant, prompts in wanted.items()}

    def _pairs(self) -> Iterator[tuple[str, str]]:
        yield from ((variant, p.id) for variant in self.compared for p in self.prompts)
        cells = [BASE_VARIANT, *(variant.id for row in self.grid for variant in row)]
        yield from ((variant, p.id) for variant in cells for p in self.grid_prompts)
        yield from ((take.variant, take.clip.prompt) for take in self.failed)
        yield from ((variant, p.id) for variant in self.fresh for p in self.fresh_prompts)


def select_clips(verdict: Verdict, table: ScoreTable, protocol: Protocol) -> ClipSelection:
    """Choose what to play of a judged sweep."""
    compared = _compared(verdict)
    prompts = protocol.screening().prompts[:COMPARED_PROMPTS]
    finalists = verdict.finalists
    grid = tuple(_grid(verdict, table))
    shown = dict.fromkeys([*compared, *(variant.id for row in grid for variant in row)])
    return ClipSelection(
        compared=compared,
        prompts=prompts,
        scales=tuple(sorted({variant.lora_scale for row in grid for variant in row})),
        grid=grid,
        grid_prompts=_spread(prompts, GRID_PROMPTS),
        failed=tuple(_failed(verdict, shown))[:FAILED],
        fresh=(BASE_VARIANT, *finalists) if finalists else (),
        fresh_prompts=_spread(protocol.confirmation, FRESH_PROMPTS) if finalists else (),
    )


def _compared(verdict: Verdict) -> dict[str, str]:
    roles = {BASE_VARIANT: "Base"}
    if verdict.variant:
        roles[verdict.variant] = "Winner"
    if verdict.runner_up:
        roles[verdict.runner_up] = "Runner-up" if verdict.variant else "Best of the trials"
    return roles


def _grid(verdict: Verdict, table: ScoreTable) -> Iterator[tuple[VariantInfo, ...]]:
    """The best trials, each at the epoch that has its best variant by objective.

    The winner need not be its trial's best, since the smallest change wins among equals; its
    trial is shown at the winner's epoch, so that the winner is in the grid.
    """
    objective = {row.id: row.objective for row in verdict.rows}
    best: dict[str | None, VariantInfo] = {}
    order = sorted(table.adapted, key=lambda v: (v.id != verdict.variant, -objective[v.id], v.id))
    for variant in order:
        best.setdefault(variant.trial, variant)
    for chosen in list(best.values())[:GRID_TRIALS]:
        of_epoch = (
            v
            for v in table.adapted
            if (v.trial, v.epoch) == (chosen.trial, chosen.epoch)
            # Of those with a decoding of their own the winner alone: a cell is for one or two.
            and (not v.own_decoding or v.id == verdict.variant)
        )
        yield tuple(sorted(of_epoch, key=lambda v: v.lora_scale))


def _spread(prompts: tuple[Prompt, ...], count: int) -> tuple[Prompt, ...]:
    """From the shortest text to the longest."""
    by_length = sorted(prompts, key=lambda prompt: len(prompt.text))
    last = len(by_length) - 1
    places = {round(i * last / (count - 1)) for i in range(count)}
    return tuple(by_length[place] for place in sorted(places))


def _failed(verdict: Verdict, variants: Iterable[str]) -> Iterator[FailedTake]:
    for variant in variants:
        for clip in verdict.row(variant).failed_clips[:FAILED_OF_ONE]:
            yield FailedTake(variant, clip)
