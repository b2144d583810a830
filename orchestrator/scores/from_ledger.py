"""From a sweep's spec and ledger to its protocol, score tables and assessments."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from jobs.metrics.base import ClipScores
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.spec.items import TextItem
from jobs.spec.trial import BASE_VARIANT, PromptSpec, Variant
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import (
    CONFIRMATION,
    DECODINGS_FILE,
    HOSTING_FILE,
    SCREEN,
    Ledger,
    PromptSet,
    TrialRecord,
)
from orchestrator.spec.decodings import decoding_points
from orchestrator.spec.model import ScoringSpec, SweepSpec
from orchestrator.spec.stored import stored_protocol, stored_spec
from orchestrator.verdict.comparison import Assessment, Comparison
from orchestrator.verdict.decodings import BASE, BaseDecoding, Decoding, bases, redecoded
from orchestrator.verdict.equivalence import Hosting
from orchestrator.verdict.protocol import MetricVersion, Omitted, Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo
from orchestrator.workers.preparation import Prepared

_OTHER_FORM = {"metrics", "finalist_metrics"}
_SAME_KEYS = (ScoringSpec.model_fields.keys() & Protocol.model_fields.keys()) - _OTHER_FORM
"""What the scoring of a spec and its protocol say in the same form."""


def protocol_for(
    spec: SweepSpec,
    prompts: Sequence[PromptSpec],
    confirmation: Sequence[PromptSpec],
    prepared: Prepared,
    items: Sequence[TextItem] = (),
    confirmation_items: Sequence[TextItem] = (),
) -> Protocol:
    """The protocol of a sweep by ``spec``, with the versions of the metrics that measure here.

    Raises:
        ScorerUnavailable: a required metric cannot be measured.
    """
    omitted = tuple(_omitted(spec.scoring))
    scoring = spec.scoring.without([each.name for each in omitted])
    variants = spec.variants
    return Protocol(
        **variants.decoding.model_dump(),
        decodings=decoding_points(variants),
        **scoring.model_dump(include=_SAME_KEYS),
        prompt_set=Path(variants.prompts).name,
        prompts=tuple(Prompt(**prompt.model_dump()) for prompt in prompts),
        shortlist_after=variants.shortlist_after,
        confirmation_set=Path(variants.confirmation_prompts).name,
        confirmation=tuple(Prompt(**prompt.model_dump()) for prompt in confirmation),
        confirmation_seed=variants.decoding.seed + 1,
        items=tuple(items),
        confirmation_items=tuple(confirmation_items),
        confirm_seeds=spec.search.confirm_seeds,
        lora_scales=variants.lora_scales,
        metrics=tuple(
            MetricVersion.model_validate(metric_of(metric), from_attributes=True)
            for metric in scoring.metric_specs(scoring.confirmed_by)
        ),
        finalist_metrics=tuple(each.name for each in scoring.finalist_metrics),
        omitted=omitted,
        family_digests=asdict(prepared),
    )


def _omitted(scoring: ScoringSpec) -> Iterator[Omitted]:
    for each in (*scoring.metrics, *scoring.finalist_metrics):
        try:
            metric_of(each)
        except ScorerUnavailable as error:
            if each.required:
                raise
            yield Omitted(name=each.name, reason=str(error.__cause__))


def variant_info(variant: Variant, record: TrialRecord, losses: EpochLosses) -> VariantInfo:
    """A variant with what its verdict needs to know of its trial."""
    training = record.training
    return VariantInfo(
        id=variant.id,
        **variant.model_dump(),
        rank=training.rank,
        learning_rate=training.learning_rate,
        validation_loss=losses.validation_loss,
        group_losses=losses.group_losses,
        mix=training.mix,
        replicate_of=record.replicate_of,
    )


class ScoredSweep:
    """A sweep's scores on the part of set A that every variant says, from rows to assessments.

    The search, its status, its MLflow runs and later sweeps all take a trial's scores from here.
    The table holds the scores that exist when it is first read.
    """

    def __init__(self, ledger: Ledger, spec: SweepSpec, protocol: Protocol) -> None:
        self.ledger, self.spec = ledger, spec
        self.protocol = protocol.screening()

    @classmethod
    def read(cls, ledger: Ledger) -> "ScoredSweep | None":
        """The sweep under its own spec and protocol; None before its first score.

        Raises:
            ValidationError: another version of voxsweep wrote them.
        """
        spec, protocol = stored_spec(ledger), stored_protocol(ledger)
        return cls(ledger, spec, protocol) if spec and protocol else None

    def variants(self, trial: str, epoch: int) -> list[Variant]:
        """The adapted variants of an epoch, by rising lora_scale."""
        every = self.spec.training.checkpoint_steps
        return [
            Variant(trial=trial, epoch=epoch, lora_scale=scale, checkpoint_steps=every)
            for scale in self.spec.variants.adapted_scales
        ]

    def of_epoch(
        self, record: TrialRecord, losses: EpochLosses, rows: Sequence[ClipScores]
    ) -> list[Assessment]:
        """Assess the variants of an epoch; ``rows`` are all their scores."""
        infos = [variant_info(v, record, losses) for v in self.variants(record.id, losses.epoch)]
        table = ScoreTable.build([BASE, *infos], [*self._base, *rows], self.protocol)
        comparison = Comparison(table, self.protocol)
        return [comparison.assess(info.id) for info in infos]

    @cached_property
    def table(self) -> ScoreTable:
        """Every variant that was scored."""
        infos, rows = [BASE], [*self._base]
        for record in self.ledger.trials():
            for losses in self.ledger.epochs(record.id):
                for variant in self.variants(record.id, losses.epoch):
                    scores = self.ledger.scores(variant.id)
                    if scores is not None:
                        infos.append(variant_info(variant, record, losses))
                        rows += scores
        return ScoreTable.build(infos, rows, self.protocol)

    @cached_property
    def assessments(self) -> dict[str, Assessment]:
        """The assessment of every scored variant by its id; none while the base has no scores."""
        if not self._base:
            return {}
        comparison = Comparison(self.table, self.protocol)
        return {info.id: comparison.assess(info.id) for info in self.table.adapted}

    @cached_property
    def best(self) -> dict[str, Assessment]:
        """The best variant of each trial that has one, by the trial's id."""
        best: dict[str, Assessment] = {}
        for name, found in self.assessments.items():
            trial = str(self.table.variants[name].trial)
            if trial not in best or found.objective > best[trial].objective:
                best[trial] = found
        return best

    @cached_property
    def _base(self) -> list[ClipScores]:
        return self.ledger.scores(BASE_VARIANT) or []


def replicate_infos(ledger: Ledger, winner: VariantInfo) -> list[VariantInfo]:
    """What was trained as ``winner`` was, with other seeds, and has come to its epoch."""
    return [
        variant_info(
            Variant(
                trial=record.id,
                epoch=winner.epoch,
                lora_scale=winner.lora_scale,
                checkpoint_steps=winner.checkpoint_steps,
                own_decoding=dict(winner.own_decoding),
            ),
            record,
            ledger.losses(record.id, winner.epoch),
        )
        for record in ledger.replicates()
        if record.replicate_of == winner.trial
        and ledger.storage.is_committed(ledger.checkpoint(record.id, winner.epoch))
    ]


def heard_replicates(ledger: Ledger, screen: ScoreTable) -> list[VariantInfo]:
    """All replicates that have scores of set B: those of earlier winners too, if it has grown."""
    heard = ledger.scored_variants(CONFIRMATION)
    finalists = [screen.variants[name] for name in heard if name in screen.variants]
    found = [each for finalist in finalists for each in replicate_infos(ledger, finalist)]
    return [each for each in found if each.id in heard]


def heard_decodings(ledger: Ledger, screen: ScoreTable, protocol: Protocol) -> list[VariantInfo]:
    """The variants of ``screen`` with every decoding that any of them was tried with.

    Those of earlier finalists too, if the sweep has grown.
    """
    heard = {*ledger.scored_variants(SCREEN)} if protocol.decodings else set()
    return [info for info in redecoded(screen.adapted, protocol) if info.id in heard]


def base_table(
    ledger: Ledger, decodings: Sequence[Decoding], parts: Sequence[PromptSet], protocol: Protocol
) -> ScoreTable:
    """The base with each decoding on the prompt sets ``parts``; the first stands for the base."""
    infos, rows = bases(decodings), []
    for info, decoding in zip(infos, decodings, strict=True):
        spoken = base_decoding_id(decoding)
        scores = [row for part in parts for row in ledger.scores(spoken, part) or []]
        rows += [replace(row, variant=info.id) for row in scores]
    return ScoreTable.build(infos, rows, protocol)


def base_decoding_id(decoding: Decoding) -> str:
    """Under what id the base's clips and scores with a decoding that is tried are kept."""
    return Variant(own_decoding=dict(decoding)).id


def stored_base_decoding(ledger: Ledger) -> BaseDecoding | None:
    """What was tried and chosen; None before that."""
    text = ledger.read_text(DECODINGS_FILE)
    return BaseDecoding.from_json(text) if text else None


def stored_hosting(ledger: Ledger, variant: str | None) -> Hosting | None:
    """How files of ``variant`` for llama.cpp were heard; None where they were not."""
    text = ledger.read_text(HOSTING_FILE)
    found = Hosting.from_json(text) if text else None
    return found if found and found.variant == variant else None


def table_of(
    ledger: Ledger,
    variants: Sequence[VariantInfo],
    parts: Sequence[PromptSet],
    protocol: Protocol,
) -> ScoreTable:
    """The base and these variants on the prompt sets ``parts``."""
    infos = [BASE, *variants]
    rows = [row for each in infos for part in parts for row in ledger.scores(each.id, part) or []]
    return ScoreTable.build(infos, rows, protocol)
