"""From the ledger to a protocol, a score table, a verdict and the report's page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version

from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import BASE_VARIANT, PromptSpec, Variant
from jobs.speech.clips import clip_name
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import CONFIRMATION, SCREEN, SHORTLIST, Ledger, TrialRecord
from orchestrator.report.audition import audition
from orchestrator.report.report_input import Failure, ReportInput, TrialCurve
from orchestrator.report.training_data import DataReport
from orchestrator.spec.model import ScoringSpec, SweepSpec
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import MetricVersion, Omitted, Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo
from orchestrator.workers.preparation import Prepared

_VERSIONS = ("voxsweep", "torch", "transformers", "peft", "deepspeed", "ray", "optuna", "mlflow")


def protocol_for(
    spec: SweepSpec,
    prompts: Sequence[PromptSpec],
    confirmation: Sequence[PromptSpec],
    prepared: Prepared,
) -> Protocol:
    """The rule for choosing that ``spec`` asks for, with the versions of what will measure.

    Raises:
        ScorerUnavailable: a required metric cannot be measured.
    """
    omitted = tuple(_omitted(spec.scoring))
    scoring = spec.scoring.without([each.name for each in omitted])
    decoding = spec.variants.decoding
    return Protocol(
        prompt_set=spec.variants.prompts,
        prompts=tuple(Prompt(**prompt.model_dump()) for prompt in prompts),
        shortlist_after=spec.variants.shortlist_after,
        seed=decoding.seed,
        confirmation_set=spec.variants.confirmation_prompts,
        confirmation=tuple(Prompt(**prompt.model_dump()) for prompt in confirmation),
        confirmation_seed=spec.confirmation_decoding.seed,
        lora_scales=spec.variants.lora_scales,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        repetition_penalty=decoding.repetition_penalty,
        max_tokens=decoding.max_tokens,
        primary=scoring.primary,
        min_effect=scoring.min_effect,
        significance=scoring.significance,
        constraints=scoring.constraints,
        gates=scoring.gates,
        metrics=tuple(map(_metric_version, scoring.asked(scoring.confirmed_by))),
        finalists=scoring.finalists,
        finalist_metrics=tuple(each.name for each in scoring.finalist_metrics),
        omitted=omitted,
        listening=scoring.listening,
        bootstrap_resamples=scoring.bootstrap_resamples,
        confidence=scoring.confidence,
        family_digests=prepared.to_dict(),
    )


def _omitted(scoring: ScoringSpec) -> Iterator[Omitted]:
    for each in (*scoring.metrics, *scoring.finalist_metrics):
        try:
            metric_of(each)
        except ScorerUnavailable as error:
            if each.required:
                raise
            yield Omitted(name=each.name, reason=str(error.__cause__))


def _metric_version(asked: MetricSpec) -> MetricVersion:
    metric = metric_of(asked)
    return MetricVersion(
        name=metric.name,
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
        group_losses=losses.group_losses,
        mix=training.mix,
    )


def score_table(ledger: Ledger, spec: SweepSpec, protocol: Protocol) -> ScoreTable:
    """Every variant that was scored, on what all of them say of set A."""
    variants, rows = [base_info()], ledger.scores(BASE_VARIANT) or []
    for record in ledger.trials():
        for losses in ledger.epochs(record.id):
            for scale in spec.variants.adapted_scales:
                variant = Variant(trial=record.id, epoch=losses.epoch, lora_scale=scale)
                scores = ledger.scores(variant.id)
                if scores is not None:
                    variants.append(variant_info(variant, record, losses))
                    rows += scores
    return ScoreTable.build(variants, rows, protocol.screening())


def shortlist_table(
    ledger: Ledger, screen: ScoreTable, shortlist: Sequence[str], protocol: Protocol
) -> ScoreTable:
    """The base and the shortlist on all of set A."""
    names = (BASE_VARIANT, *shortlist)
    rows = [
        row
        for name in names
        for part in (SCREEN, SHORTLIST)
        for row in ledger.scores(name, part) or []
    ]
    return ScoreTable.build([screen.variants[n] for n in names], rows, protocol)


def confirmation_table(
    ledger: Ledger, screen: ScoreTable, finalists: Sequence[str], protocol: Protocol
) -> ScoreTable:
    """The base and the finalists on set B."""
    names = (BASE_VARIANT, *finalists)
    rows = [row for name in names for row in ledger.scores(name, CONFIRMATION) or []]
    return ScoreTable.build([screen.variants[n] for n in names], rows, protocol.confirming())


def report_input(
    ledger: Ledger,
    spec: SweepSpec,
    protocol: Protocol,
    table: ScoreTable,
    verdict: Verdict,
    facts: Sequence[tuple[str, str]],
    data: DataReport | str,
) -> ReportInput:
    """What the page of this sweep shows."""
    return ReportInput(
        sweep=spec.name,
        family=spec.family,
        protocol=protocol,
        verdict=verdict,
        table=table,
        curves=[_curve(ledger, record) for record in ledger.trials()],
        clips=_clips(
            ledger,
            audition(verdict, table, protocol).clips(),
            {prompt.id for prompt in protocol.confirmation},
        ),
        failures=list(_failures(ledger)),
        facts=[*facts, *((f"{name} version", version(name)) for name in _VERSIONS)],
        data=data,
    )


def _curve(ledger: Ledger, record: TrialRecord) -> TrialCurve:
    epochs, result = ledger.epochs(record.id), ledger.result(record.id)
    return TrialCurve(
        trial=record.id,
        rank=record.training.rank,
        learning_rate=record.training.learning_rate,
        training_loss=[losses.training_loss for losses in epochs],
        validation_loss=[losses.validation_loss for losses in epochs],
        status=result.end if result else "unfinished",
        reason=result.reason if result else "the sweep ended before it did",
        seconds=sum(losses.seconds for losses in epochs),
        epochs_asked=record.training.epochs,
    )


def _clips(
    ledger: Ledger, wanted: Mapping[str, Sequence[str]], fresh: Collection[str]
) -> dict[str, dict[str, bytes]]:
    """The FLAC files of the prompts wanted of each variant; what does not sound has none."""
    clips: dict[str, dict[str, bytes]] = {}
    for variant, prompts in wanted.items():
        clips[variant] = {}
        for prompt in prompts:
            key = ledger.clips(variant, CONFIRMATION if prompt in fresh else SCREEN)
            with suppress(FileNotFoundError):
                clips[variant][prompt] = ledger.storage.read_from(key, clip_name(prompt))
    return clips


def _failures(ledger: Ledger) -> Iterator[Failure]:
    for record in ledger.trials():
        result = ledger.result(record.id)
        if result is not None and result.end == "failed":
            yield Failure(f"trial {record.id}", result.reason)
