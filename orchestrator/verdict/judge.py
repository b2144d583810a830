"""From the scores of set A and set B to a verdict, by the protocol's rule and nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.verdict import wording
from orchestrator.verdict.confirm import confirm, without_winner
from orchestrator.verdict.gates import (
    check_constraints,
    check_failures,
    counted,
    failed_clips,
    total_violation,
    unscored_clips,
)
from orchestrator.verdict.outcome import Confirmation, LossReport, VariantRow, Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import (
    bootstrap_of,
    choose_finalists,
    feasible_first,
    gains,
    is_silent,
    size,
)
from orchestrator.verdict.stats import prompts_needed, spearman
from orchestrator.verdict.table import BASE, ScoreTable, VariantInfo


def judge(screen: ScoreTable, confirmation: ScoreTable | None, protocol: Protocol) -> Verdict:
    """Choose the variant to promote, or say why there is none. The same tables, the same verdict.

    Args:
        screen: set A, every variant.
        confirmation: set B, the base and the finalists that :func:`choose_finalists` gives, built
            with ``protocol.confirming()``; None if there are none.
        protocol: under which both were scored.
    """
    rows = {variant: _row(screen, variant, protocol) for variant in screen.variants}
    scored = [rows[v.id] for v in screen.adapted if not is_silent(screen, v.id, protocol)]
    empty = Verdict(
        verdict="NO-VERDICT",
        sentence=wording.silence(screen.adapted),
        variant=None,
        runner_up=None,
        protocol_hash=protocol.digest(),
        primary=protocol.primary,
        effect=None,
        prompts_needed=None,
        rows=tuple(rows.values()),
        confirmed=(),
        loss=None,
    )
    if not scored or is_silent(screen, BASE, protocol):
        return replace(empty, rows=tuple(map(_not_compared, rows.values())))
    verdict = replace(empty, loss=_loss_report(screen, scored, protocol.primary))
    finalists = choose_finalists(screen, protocol)
    if not finalists:
        best = max(scored, key=lambda row: row.objective)
        sentence = wording.none_allowed(best, screen.variants[best.id].name, scored)
        return replace(verdict, verdict="DO-NOT-FINE-TUNE", sentence=sentence, runner_up=best.id)
    lacking = [name for name in (BASE, *finalists) if not _is_heard(confirmation, name, protocol)]
    if confirmation is None or lacking:
        return replace(verdict, sentence=wording.unconfirmed(lacking))
    return _confirmed(verdict, scored, screen, confirmation, finalists, protocol)


def _confirmed(
    verdict: Verdict,
    scored: Sequence[VariantRow],
    screen: ScoreTable,
    confirmation: ScoreTable,
    finalists: Sequence[str],
    protocol: Protocol,
) -> Verdict:
    """The verdict of a sweep whose finalists were all heard on set B."""
    fresh = protocol.confirming()
    of_finalists = {name: gains(confirmation, name, fresh) for name in finalists}
    confirmed = confirm(
        [_row(confirmation, name, fresh) for name in finalists], [*of_finalists.values()], protocol
    )
    winner = _most_modest(confirmation, confirmed, fresh)
    # Without a winner the one that set A put first: to take the best on set B is to choose again.
    best = winner or confirmed[0]
    name = screen.variants[best.row.id].name
    outcome = "PROMOTE-PENDING-LISTENING" if winner else without_winner(confirmed)
    spread = float(of_finalists[best.row.id].std(ddof=1))
    needed = (
        _enough_prompts(best.row, spread, len(finalists), protocol)
        if outcome == "INCONCLUSIVE"
        else None
    )
    others = [row for row in scored if row.id != best.row.id and row.feasible]
    return replace(
        verdict,
        verdict=outcome,
        sentence=wording.promotion(winner, name, protocol)
        if winner
        else wording.refusal(outcome, best, name, confirmed, needed, protocol),
        variant=winner.row.id if winner else None,
        runner_up=_runner_up(screen, others, winner.row.id) if winner else best.row.id,
        effect=best.row.gain,
        prompts_needed=needed,
        rows=tuple(_settle(row, confirmed, winner, protocol) for row in verdict.rows),
        confirmed=confirmed,
    )


def _row(table: ScoreTable, variant: str, protocol: Protocol) -> VariantRow:
    bootstrap = bootstrap_of(protocol)
    counts = {m: counted(table, variant, m, protocol) for m in table.values[variant]}
    base = {m: counted(table, BASE, m, protocol) for m in table.values[BASE]}
    gain = bootstrap.interval(gains(table, variant, protocol))
    failures = check_failures(table, variant, protocol)
    checks = check_constraints(table, variant, protocol, bootstrap)
    row = VariantRow(
        id=variant,
        standing="passed",
        reasons=(),
        means={metric: float(values.mean()) for metric, values in counts.items()},
        differences={m: bootstrap.interval(counts[m] - base[m]) for m in counts if m in base},
        gain=gain,
        objective=feasible_first(
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
    if is_silent(table, row.id, protocol):
        return [wording.no_scores_reason(unscored_clips(table, row.id, protocol))]
    gate = [wording.gate_reason(row.failures)] if row.failures.violation else []
    broken = [wording.constraint_reason(check) for check in row.constraints if check.violation]
    # A gain that comes with failed clips or another voice is no news: leave it out.
    no_gain = None if gate or broken else wording.no_gain_reason(row.gain, protocol)
    return [*gate, *broken, *([no_gain] if no_gain else [])]


def _is_heard(table: ScoreTable | None, variant: str, protocol: Protocol) -> bool:
    """Whether the variant said set B and was scored."""
    if table is None or variant not in table.variants:
        return False
    return not is_silent(table, variant, protocol.confirming())


def _enough_prompts(
    row: VariantRow, spread: float, finalists: int, protocol: Protocol
) -> int | None:
    """How many prompts would likely decide on the variant; None if no more of them would."""
    counts = []
    if (effect := protocol.min_effect or row.gain.mean) > 0:
        counts.append(prompts_needed(spread, effect, finalists, protocol.significance))
    for check in row.constraints:
        room = check.margin - check.worsening.mean
        if check.violation and room > 0:
            # A bound comes nearer to its mean with the root of the number of prompts.
            nearer = (check.bound - check.worsening.mean) / room
            counts.append(math.ceil(row.gain.n * nearer**2))
    needed = max(counts, default=0)
    return needed if needed > row.gain.n else None


def _most_modest(
    table: ScoreTable, confirmed: Sequence[Confirmation], protocol: Protocol
) -> Confirmation | None:
    """Of the finalists that are better, the smallest change that cannot be told from the best."""
    better = [each for each in confirmed if each.finding == "better"]
    if not better:
        return None
    best = max(better, key=lambda each: each.row.gain.mean)
    of_best = gains(table, best.row.id, protocol)
    tied = [
        each
        for each in better
        if bootstrap_of(protocol)
        .interval(of_best - gains(table, each.row.id, protocol))
        .includes_zero
    ]
    return min(tied, key=lambda e: (*size(table.variants[e.row.id]), -e.row.gain.mean, e.row.id))


def _runner_up(table: ScoreTable, others: Sequence[VariantRow], winner: str) -> str | None:
    trial = table.variants[winner].trial

    def preference(row: VariantRow) -> tuple[bool, bool, float]:
        return table.variants[row.id].trial != trial, row.standing == "passed", row.gain.mean

    return max(others, key=preference).id if others else None


def _settle(
    row: VariantRow,
    confirmed: Sequence[Confirmation],
    winner: Confirmation | None,
    protocol: Protocol,
) -> VariantRow:
    """Give a row of set A its last word, once set B has spoken."""
    finalist = next((each for each in confirmed if each.row.id == row.id), None)
    if finalist is None:
        passed = row.standing == "passed"
        return replace(row, reasons=(wording.NOT_A_FINALIST,)) if passed else row
    if winner is finalist:
        return replace(row, standing="winner", reasons=())
    if winner and finalist.finding == "better":
        reason = wording.preferred_reason(finalist.row.gain, winner.row.gain)
        return replace(row, standing="passed", reasons=(reason,))
    reasons = wording.finding_reasons(finalist, protocol)
    return replace(row, standing="rejected", reasons=reasons)


def _not_compared(row: VariantRow) -> VariantRow:
    if row.id == BASE:
        return row
    return replace(row, standing="rejected", reasons=row.reasons or (wording.BASE_INCOMPLETE,))


def _loss_report(
    table: ScoreTable, scored: Sequence[VariantRow], primary: str
) -> LossReport | None:
    trained = as_trained([table.variants[row.id] for row in scored])
    losses = {v.id: v.validation_loss for v in trained if v.validation_loss is not None}
    if not losses:
        return None
    rows: Mapping[str, VariantRow] = {row.id: row for row in scored}
    lowest = rows[min(losses, key=lambda name: losses[name])]
    return LossReport(
        spearman=spearman([*losses.values()], [rows[name].means[primary] for name in losses]),
        checkpoints=len(losses),
        lowest=lowest.id,
        lowest_rank=1 + sum(row.gain.mean > lowest.gain.mean for row in scored),
        variants=len(scored),
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
