"""A minute of a sweep's work on this machine, timed, by which a plan knows what it will take."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cluster.storage.base import open_storage
from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import data_key
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.metrics.references import MIN_REFERENCES
from jobs.problems import InputError, Problem
from jobs.spec.trial import PromptSpec, TrainingSpec, TrialSpec
from jobs.training.packing import AdapterUse
from orchestrator.spec.cost import Measured, Pace, Range, trained_clips
from orchestrator.spec.model import ScoringSpec, SweepSpec
from orchestrator.spec.plan import SweepEnd, most_epochs
from orchestrator.workers.scorers import load_scorers

if TYPE_CHECKING:
    from jobs.training.host import Host
    from orchestrator.spec.inputs import Inputs  # imports what reads audio

_TRAINED = 16
"""Training clips at least; two batches of the largest size where that is more."""
_SPOKEN = 4
"""Prompts, each spoken at every scale above 0."""
_PATIENCE = 10.0
"""Seconds of an epoch after which no second one is timed."""
_SLOT = "pilot"


@dataclass(frozen=True)
class _Timed:
    """Seconds by clip, of one epoch."""

    training: float
    """Validation included, with as many validation clips as the dataset has to a training clip."""
    speech: float
    """Scores included."""


def measure(spec: SweepSpec, inputs: "Inputs", tell: Callable[[str], None]) -> Measured:
    """Time epochs of the cheapest and of the dearest training, with the speech and scores of each.

    In this process, one trial at a time, in a temporary folder of which nothing is kept.

    Raises:
        InputError: several ranks train together, which one process cannot time; or the data is
            bad, see :func:`jobs.data.prepared.prepare.prepare`.
    """
    if spec.engine.ranks > 1:
        what = f"--measure times one rank, got {spec.engine.ranks}"
        hint = "Run a sweep of this family on such machines: plan uses its seconds."
        raise InputError([Problem("engine.ranks", what, hint)])
    began = time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as on a sweep's hosts, before torch reads it
    # It sets its level anew when it is imported, and then warns that there is no GPU.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    # Heavy, and imported by a sweep's processes as well: their time counts.
    from jobs.data.prepared.files import read_prepared
    from jobs.data.prepared.prepare import prepare
    from jobs.families.base import to_accelerator
    from jobs.families.registry import load_base
    from jobs.training.engine.start import start_distributed
    from jobs.training.host import Host

    clips = some_clips(spec, inputs.clips)
    tell(f"measuring on {len(clips)} clips: loading the base")
    base = load_base(spec.host())
    to_accelerator(base.model)
    start_distributed()
    loading = time.monotonic() - began
    with TemporaryDirectory(prefix="voxsweep-") as folder:
        storage = open_storage(folder)
        began = time.monotonic()
        done = prepare(clips, base, storage, spec.data)
        encoding = (time.monotonic() - began) / len(clips)
        directory = storage.fetch(data_key(done.digest))
        prepared = read_prepared(directory)
        base.fit_speakers(prepared)
        host = Host(base, prepared, spec.engine)
        # The metrics compare with held-out recordings, and here they are of one speaker.
        speaker = next(clip.row.speaker for clip in clips if clip.row.split == "validation")
        prompts = [
            prompt.model_copy(update={"speaker": prompt.speaker and speaker})
            for prompt in inputs.prompts[:_SPOKEN]
        ]
        scoring = spec.scoring.without(_unavailable(spec.scoring))
        scorers = load_scorers(scoring, scoring.measured, directory, [p.speaker for p in prompts])
        timed: list[_Timed] = []
        for training in _cheapest_and_dearest(spec):
            tell(f"measuring: training with rank {training.rank}, speech, scores")
            trial = TrialSpec(
                family=spec.family,
                base_digest=base.digest,
                data_digest=done.digest,
                training=training,
                engine=spec.engine,
            )
            host.attach(_SLOT, trial)
            timed += _time_epochs(spec, host, clips, inputs.clips, prompts, scorers)
            host.detach(_SLOT)
    return _as_measured(spec, inputs, timed, loading, encoding)


def _time_epochs(
    spec: SweepSpec,
    host: "Host",
    clips: Sequence[TargetClip],
    all_clips: Sequence[TargetClip],
    prompts: Sequence[PromptSpec],
    scorers: Sequence[Any],
) -> Iterator[_Timed]:
    """Two epochs, the first of which also warms up; of a slow one the first alone.

    Args:
        clips: those in ``host``.
        all_clips: those of the sweep.
    """
    from jobs.metrics.base import score_clip

    trained_on = trained_clips(spec, _count(all_clips, "train"))
    held_out = _count(all_clips, "validation") / trained_on
    for _ in range(2):
        began = time.monotonic()
        while not host.epoch_is_over(_SLOT):
            host.step([_SLOT])
        trained = time.monotonic()
        host.end_epoch(_SLOT)
        validated = time.monotonic()
        voices = [AdapterUse(_SLOT, scale) for scale in spec.variants.adapted_scales]
        for spoken in host.speak(voices, prompts, spec.variants.decoding):
            for prompt, clip in zip(prompts, spoken, strict=True):
                score_clip(scorers, clip, variant=_SLOT, prompt=prompt.id, seed=0)
        ended = time.monotonic()
        yield _Timed(
            training=(trained - began) / _count(clips, "train")
            + held_out * (validated - trained) / _count(clips, "validation"),
            speech=(ended - validated) / (len(voices) * len(prompts)),
        )
        if ended - began > _PATIENCE:
            return


def _as_measured(
    spec: SweepSpec, inputs: "Inputs", timed: Sequence[_Timed], loading: float, encoding: float
) -> Measured:
    training, speech = [each.training for each in timed], [each.speech for each in timed]
    slots = spec.hosts * (spec.slots_per_host or 1)
    end = SweepEnd.of(spec, most_epochs(spec), inputs.prompts, inputs.confirmation)
    end = replace(end, replicates=0)  # their epochs are counted where there is a winner
    of_base = len(inputs.prompts) + len(inputs.confirmation)

    def rest(clip: float) -> float:
        # Loaded twice, by the process that prepares and by a host; a scorer loads beside them.
        before = 2 * loading + encoding * len(inputs.clips) + of_base * clip
        return before + end.seconds(Pace(epoch=0.0, clip=clip), slots)

    return Measured(
        by=f"{len(timed)} short epochs on this machine",
        train=Range(min(training), max(training)),
        speak=Range(min(speech), max(speech)),
        slots_per_host=1.0,
        rest=Range(rest(min(speech)), rest(max(speech))),
        slowest_train=max(training),
        slowest_speak=max(speech),
    )


def _cheapest_and_dearest(spec: SweepSpec) -> list[TrainingSpec]:
    """The smallest rank in the largest batches, and the largest training in the smallest."""
    sizes = spec.corners("batch_size")
    smallest = spec.training_for({"rank": min(spec.corners("rank"))})
    # Whole epochs, also where the sweep counts in steps.
    whole = {"epochs": 2, "steps": None, "checkpoint_steps": None}
    chosen = (smallest, max(sizes)), (spec.largest_training, min(sizes))
    return [one.model_copy(update={"batch_size": size, **whole}) for one, size in chosen]


def some_clips(spec: SweepSpec, clips: Sequence[TargetClip]) -> list[TargetClip]:
    """Training clips whose lengths are those of all, and validation clips of one speaker."""
    wanted = max(_TRAINED, 2 * max(spec.corners("batch_size")))
    if spec.data.reference_prefix:
        # Some of the clips may lack the one that is named; any of its length takes as long.
        clips = [replace(clip, row=replace(clip.row, ref_audio=None)) for clip in clips]
    training = [clip for clip in clips if clip.row.split == "train"]
    held_out = [clip for clip in clips if clip.row.split == "validation"]
    speakers = Counter(clip.row.speaker for clip in held_out)
    speaker = speakers.most_common(1)[0][0]
    if spec.data.reference_prefix:  # of each speaker there must be two
        training = [clip for clip in training if clip.row.speaker == speaker]
    return [
        *_spread(training, wanted),
        *_spread([c for c in held_out if c.row.speaker == speaker], MIN_REFERENCES),
    ]


def _count(clips: Sequence[TargetClip], split: str) -> int:
    return sum(clip.row.split == split for clip in clips)


def _unavailable(scoring: ScoringSpec) -> list[str]:
    """Names of the metrics that a sweep would do without here."""
    found = []
    for metric in scoring.metrics:
        try:
            metric_of(metric)
        except ScorerUnavailable:
            if metric.required:
                raise
            found.append(metric.name)
    return found


def _spread(clips: Sequence[TargetClip], count: int) -> list[TargetClip]:
    """So many of them, one from each of as many equal parts of the order by length."""
    ordered = sorted(clips, key=lambda clip: clip.seconds)
    count = min(count, len(ordered))
    return [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]
