"""From a table of scores to a verdict, by the protocol's rule and nothing else."""

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.verdict import wording
from orchestrator.verdict.gates import (
    check_constraints,
    check_failures,
    counted,
    failed_clips,
    total_violation,
    unscored_clips,
)
from orchestrator.verdict.outcome import LossReport, VariantRow, Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.stats import PairedBootstrap, spearman
from orchestrator.verdict.table import BASE, ScoreTable, Values, VariantInfo


def objective(table: ScoreTable, variant: str, protocol: Protocol) -> float:
    """How good a variant is, always to be maximised and always finite.

    The mean gain in the primary metric if the gates and constraints hold. If not, a value below
    every possible gain, falling with the violation (the feasibility rules of Deb 2000, "An
    efficient constraint handling method for genetic algorithms", section 3), so that a search can
    still tell which way leads out. A constraint on a metric that only finalists get is left out
    while the variant does not have it.

    Raises:
        KeyError: no such variant in the table.
    """
    failures = check_failures(table, variant, protocol)
    checks = check_constraints(table, variant, protocol, _bootstrap(protocol))
    gain = float(_gains(table, variant, protocol).mean())
    return _feasible_first(
        gain, total_violation(failures, checks), table.metrics[protocol.primary].span
    )


def judge(table: ScoreTable, protocol: Protocol) -> Verdict:
    """Choose the variant to promote, or say why there is none. The same table, the same verdict."""
    bootstrap = _bootstrap(protocol)
    rows = [_row(table, variant, protocol, bootstrap) for variant in table.variants]
    judged = [row for row in rows if row.id != BASE and _complete(table, row.id, protocol)]
    if not judged or not _complete(table, BASE, protocol):
        return _no_verdict(table, rows, protocol)
    passed = [row for row in judged if row.standing == "passed"]
    best = max(judged, key=lambda row: row.objective)
    winner = _most_modest(table, passed, protocol, bootstrap) if passed else None
    head = winner or best
    name = table.variants[head.id].name
    return Verdict(
        verdict="PROMOTE-PENDING-LISTENING" if winner else "DO-NOT-FINE-TUNE",
        sentence=wording.promotion(winner, name, protocol)
        if winner
        else wording.refusal(best, name, judged, protocol),
        variant=winner.id if winner else None,
        runner_up=_runner_up(table, judged, winner) if winner else best.id,
        protocol_hash=protocol.digest(),
        primary=protocol.primary,
        effect=head.gain,
        rows=tuple(_settle(row, winner) for row in rows),
        loss=_loss_report(table, judged, protocol.primary),
    )


def _bootstrap(protocol: Protocol) -> PairedBootstrap:
    return PairedBootstrap(
        len(protocol.prompts), protocol.bootstrap_resamples, protocol.confidence, protocol.seed
    )


def _gains(table: ScoreTable, variant: str, protocol: Protocol) -> Values:
    """Paired differences to the base by prompt, signed so that positive is better."""
    ours, base = (counted(table, of, protocol.primary, protocol) for of in (variant, BASE))
    return ours - base if table.metrics[protocol.primary].direction == "higher" else base - ours


def _feasible_first(gain: float, violation: float, span: float) -> float:
    # No gain is below -span: both means lie within the primary metric's bounds.
    return max(gain, -span) if violation == 0 else -span - violation


def _complete(table: ScoreTable, variant: str, protocol: Protocol) -> bool:
    """Whether the variant has what a judgement needs: clips, and every constraint's metric."""
    scored = len(unscored_clips(table, variant, protocol)) < len(table.keys)
    return scored and not _unmeasured(table, variant, protocol)


def _unmeasured(table: ScoreTable, variant: str, protocol: Protocol) -> list[str]:
    names = (constraint.metric for constraint in protocol.constraints)
    return [name for name in names if name not in table.values[variant]]


def _row(
    table: ScoreTable, variant: str, protocol: Protocol, bootstrap: PairedBootstrap
) -> VariantRow:
    counts = {m: counted(table, variant, m, protocol) for m in table.values[variant]}
    base = {m: counted(table, BASE, m, protocol) for m in table.values[BASE]}
    gain = bootstrap.interval(_gains(table, variant, protocol))
    failures = check_failures(table, variant, protocol)
    checks = check_constraints(table, variant, protocol, bootstrap)
    row = VariantRow(
        id=variant,
        standing="passed",
        reasons=(),
        means={metric: float(values.mean()) for metric, values in counts.items()},
        differences={m: bootstrap.interval(counts[m] - base[m]) for m in counts if m in base},
        gain=gain,
        objective=_feasible_first(
            gain.mean, total_violation(failures, checks), table.metrics[protocol.primary].span
        ),
        failures=failures,
        missing={metric: len(clips) for metric, clips in table.missing[variant].items()},
        failed_clips=failed_clips(table, variant, protocol),
        constraints=checks,
    )
    if variant == BASE:
        return replace(row, standing="base")
    reasons = tuple(_objections(table, row, protocol))
    return replace(row, standing="rejected", reasons=reasons) if reasons else row


def _objections(table: ScoreTable, row: VariantRow, protocol: Protocol) -> list[str]:
    unscored = unscored_clips(table, row.id, protocol)
    if len(unscored) == len(table.keys):
        return [wording.no_scores_reason(unscored)]
    gate = [wording.gate_reason(row.failures)] if row.failures.violation else []
    broken = [wording.constraint_reason(check) for check in row.constraints if check.violation]
    absent = [wording.absent_reason(name) for name in _unmeasured(table, row.id, protocol)]
    # A gain that comes with failed clips or another voice is no news: leave it out.
    no_gain = None if gate or broken else wording.no_gain_reason(row.gain, protocol)
    return [*gate, *broken, *absent, *([no_gain] if no_gain else [])]


def _most_modest(
    table: ScoreTable, passed: Sequence[VariantRow], protocol: Protocol, bootstrap: PairedBootstrap
) -> VariantRow:
    """The smallest change among those that cannot be told from the best."""
    best = max(passed, key=lambda row: row.gain.mean)
    of_best = _gains(table, best.id, protocol)
    tied = [
        row
        for row in passed
        if bootstrap.interval(of_best - _gains(table, row.id, protocol)).includes_zero
    ]
    return min(tied, key=lambda row: (*_size(table.variants[row.id]), -row.gain.mean, row.id))


def _size(variant: VariantInfo) -> tuple[float, float, int]:
    rank = math.inf if variant.rank is None else variant.rank
    return rank, abs(variant.lora_scale - 1.0), variant.epoch


def _runner_up(table: ScoreTable, judged: Sequence[VariantRow], winner: VariantRow) -> str | None:
    others = [row for row in judged if row.id != winner.id and row.feasible]
    trial = table.variants[winner.id].trial

    def preference(row: VariantRow) -> tuple[bool, bool, float]:
        return table.variants[row.id].trial != trial, row.standing == "passed", row.gain.mean

    return max(others, key=preference).id if others else None


def _settle(row: VariantRow, winner: VariantRow | None) -> VariantRow:
    """Give a row that passed its last word, once the winner is known."""
    if winner is None or row.standing != "passed":
        return row
    if row.id == winner.id:
        return replace(row, standing="winner")
    return replace(row, reasons=(wording.preferred_reason(row.gain, winner.gain),))


def _no_verdict(table: ScoreTable, rows: Sequence[VariantRow], protocol: Protocol) -> Verdict:
    return Verdict(
        verdict="NO-VERDICT",
        sentence=wording.silence(table.adapted),
        variant=None,
        runner_up=None,
        protocol_hash=protocol.digest(),
        primary=protocol.primary,
        effect=None,
        rows=tuple(
            replace(row, standing="rejected", reasons=row.reasons or (wording.BASE_INCOMPLETE,))
            if row.id != BASE
            else row
            for row in rows
        ),
        loss=None,
    )


def _loss_report(
    table: ScoreTable, judged: Sequence[VariantRow], primary: str
) -> LossReport | None:
    trained = as_trained([table.variants[row.id] for row in judged])
    losses = {v.id: v.validation_loss for v in trained if v.validation_loss is not None}
    if not losses:
        return None
    rows = {row.id: row for row in judged}
    lowest = rows[min(losses, key=lambda name: losses[name])]
    return LossReport(
        spearman=spearman([*losses.values()], [rows[name].means[primary] for name in losses]),
        checkpoints=len(losses),
        lowest=lowest.id,
        lowest_rank=1 + sum(row.gain.mean > lowest.gain.mean for row in judged),
        variants=len(judged),
    )


def as_trained(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """One variant a checkpoint that has a validation loss: the lora_scale nearest 1.

    Loss belongs to a checkpoint at scale 1; the same loss at many scales would count it many times.
    """
    nearest: dict[tuple[str | None, int], VariantInfo] = {}
    for variant in sorted(variants, key=lambda v: (abs(v.lora_scale - 1.0), v.id)):
        if variant.validation_loss is not None and math.isfinite(variant.validation_loss):
            nearest.setdefault((variant.trial, variant.epoch), variant)
    return sorted(nearest.values(), key=lambda v: v.id)
