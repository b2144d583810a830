"""From the ledger to a protocol, a score table, a verdict and the report's page."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

from jobs.metrics.base import ClipScores
from jobs.metrics.run import METRICS
from jobs.spec import BASE_VARIANT, PromptSpec, Variant
from jobs.speech.clips import clip_path
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import Ledger, TrialRecord, merged
from orchestrator.preparation import Prepared
from orchestrator.report.material import Failure, ReportInput, TrialCurve
from orchestrator.spec import SweepSpec
from orchestrator.verdict.judge import objective
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import MetricVersion, Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo

PLAYED_PROMPTS = 8
"""How many prompts the report plays."""

_VERSIONS = ("voxsweep", "torch", "transformers", "peft", "deepspeed", "ray", "optuna", "mlflow")


def protocol_for(spec: SweepSpec, prompts: Sequence[PromptSpec], prepared: Prepared) -> Protocol:
    """The rule for choosing that ``spec`` asks for, with the versions of what will measure."""
    scoring, decoding = spec.scoring, spec.variants.decoding
    names = dict.fromkeys((*scoring.measured, *scoring.finalist_metrics))
    return Protocol(
        prompt_set=spec.variants.prompts,
        prompts=tuple(Prompt(id=prompt.id, text=prompt.text) for prompt in prompts),
        seed=decoding.seed,
        lora_scales=spec.variants.lora_scales,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        primary=scoring.primary,
        min_effect=scoring.min_effect,
        constraints=scoring.constraints,
        gates=scoring.gates,
        metrics=tuple(map(_metric_version, names)),
        finalists=scoring.finalists,
        finalist_metrics=scoring.finalist_metrics,
        bootstrap_resamples=scoring.bootstrap_resamples,
        confidence=scoring.confidence,
        family_digests=prepared.to_dict(),
    )


def _metric_version(name: str) -> MetricVersion:
    metric = METRICS[name]
    return MetricVersion(
        name=name,
        version=metric.version,
        unit=metric.unit,
        direction=metric.direction,
        low=metric.low,
        high=metric.high,
    )


def base_info() -> VariantInfo:
    """The base as a variant."""
    return VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None)


def variant_info(variant: Variant, record: TrialRecord, losses: EpochLosses) -> VariantInfo:
    """A variant with what a judgement needs to know of its trial."""
    training = record.training
    return VariantInfo(
        id=variant.id,
        trial=variant.trial,
        epoch=variant.epoch,
        lora_scale=variant.lora_scale,
        rank=training.rank,
        learning_rate=training.learning_rate,
        validation_loss=losses.validation_loss,
    )


def score_table(ledger: Ledger, spec: SweepSpec, protocol: Protocol) -> ScoreTable:
    """Every variant that was scored."""
    variants, rows = [base_info()], _scores(ledger, BASE_VARIANT) or []
    for record in ledger.trials():
        for losses in ledger.epochs(record.id):
            for scale in spec.variants.adapted_scales:
                variant = Variant(trial=record.id, epoch=losses.epoch, lora_scale=scale)
                scores = _scores(ledger, variant.id)
                if scores is not None:
                    variants.append(variant_info(variant, record, losses))
                    rows += scores
    return ScoreTable.build(variants, rows, protocol)


def finalists(table: ScoreTable, protocol: Protocol) -> list[str]:
    """The variants that get the dearer metrics: the base and the best by objective."""
    adapted = [variant.id for variant in table.adapted]
    best = sorted(adapted, key=lambda variant: -objective(table, variant, protocol))
    return [BASE_VARIANT, *best[: protocol.finalists]]


def report_input(
    ledger: Ledger,
    spec: SweepSpec,
    protocol: Protocol,
    table: ScoreTable,
    verdict: Verdict,
    facts: Sequence[tuple[str, str]],
) -> ReportInput:
    """What the page of this sweep shows."""
    return ReportInput(
        sweep=spec.name,
        family=spec.family,
        protocol=protocol,
        verdict=verdict,
        table=table,
        curves=[_curve(ledger, record) for record in ledger.trials()],
        clips=_clips(ledger, verdict, protocol),
        failures=list(_failures(ledger)),
        facts=[*facts, *((f"{name} version", version(name)) for name in _VERSIONS)],
    )


def _scores(ledger: Ledger, variant: str) -> list[ClipScores] | None:
    rows = ledger.scores(variant, "all")
    return rows and merged(rows, ledger.scores(variant, "finalist") or [])


def _curve(ledger: Ledger, record: TrialRecord) -> TrialCurve:
    epochs, result = ledger.epochs(record.id), ledger.result(record.id)
    return TrialCurve(
        trial=record.id,
        rank=record.training.rank,
        learning_rate=record.training.learning_rate,
        training_loss=[losses.training_loss for losses in epochs],
        validation_loss=[losses.validation_loss for losses in epochs],
        status=result.end if result else "stopped",
        reason=result.reason if result else "the sweep ended before it did",
        seconds=sum(losses.seconds for losses in epochs),
    )


def _clips(ledger: Ledger, verdict: Verdict, protocol: Protocol) -> dict[str, dict[str, bytes]]:
    heard = (BASE_VARIANT, verdict.variant, verdict.runner_up)
    prompts = [prompt.id for prompt in protocol.prompts[:PLAYED_PROMPTS]]
    clips = {}
    for variant in dict.fromkeys(name for name in heard if name):
        directory = ledger.storage.fetch(ledger.clips(variant))
        paths = {prompt: clip_path(directory, prompt) for prompt in prompts}
        clips[variant] = {p: path.read_bytes() for p, path in paths.items() if path.is_file()}
    return clips


def _failures(ledger: Ledger) -> Iterator[Failure]:
    for record in ledger.trials():
        result = ledger.result(record.id)
        if result is not None and result.end == "failed":
            yield Failure(f"trial {record.id}", result.reason)
