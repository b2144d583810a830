"""What comes before the first trial: data prepared once, and the base's own speech."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from cluster.storage.base import Storage, open_storage
from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import data_key
from jobs.problems import InputError, Problem
from jobs.spec.items import TextItem
from jobs.spec.trial import BASE_VARIANT, DecodingSpec, PromptSpec
from jobs.speech.clips import Origin
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger, PromptSet, shortlist_sets
from orchestrator.spec.model import SweepSpec

if TYPE_CHECKING:
    from jobs.data.findings import Finding
    from jobs.data.prepared.prepare import Preparation
    from jobs.families.base import FrozenBase
    from orchestrator.spec.inputs import Inputs  # imports what reads audio

_QUIETER = 0.05
"""LU below the requested loudness; less is rounding."""
_LISTENED_TO = 20
"""Clips. Fewer than by ``voxsweep check``: the first trial waits, and a large Whisper is slow."""


_ACCEPT = "If they are right, and the recogniser is not, set data.accept: [{}]."


@dataclass(frozen=True)
class Prepared:
    """Digests of what all trials share."""

    base_digest: str
    data_digest: str
    encoder_digest: str


@dataclass(frozen=True)
class PreparedData:
    """A data set as it lies in the storage, and what of it was made just now."""

    digest: str
    place: str
    clips: int
    encoded: int
    reused: int
    groups: tuple[tuple[str, str | None, str | None, int], ...]
    """Split, speaker, language, and the number of their clips."""
    quieter: int
    """Clips below the requested loudness, since they would have clipped."""
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The one object that ``voxsweep prepare --json`` prints."""
        keys = ("split", "speaker", "language", "clips")
        groups = [dict(zip(keys, group, strict=True)) for group in self.groups]
        return {**asdict(self), "groups": groups}


def prepare_data(
    spec: SweepSpec,
    clips: Sequence[TargetClip],
    storage: Storage,
    progress: Callable[[int, int], None],
) -> PreparedData:
    """Prepare the data in this process, as a sweep would, which then finds it.

    Raises:
        InputError: see :func:`jobs.data.prepared.prepare.prepare`.
    """
    from jobs.data.prepared.files import read_prepared

    _, done = _prepare(spec, clips, storage, progress)
    key = data_key(done.digest)
    directory = storage.fetch(key)
    prepared = read_prepared(directory)
    groups = Counter((clip.split, clip.speaker, clip.language) for clip in prepared)
    wanted = spec.data.loudness
    reached = [clip.loudness for clip in prepared if clip.loudness is not None]
    return PreparedData(
        digest=done.digest,
        place=f"{storage.url}/{key}",
        clips=done.clips,
        encoded=done.encoded,
        reused=done.reused,
        groups=tuple((*group, count) for group, count in groups.items()),
        quieter=sum(wanted is not None and loudness < wanted - _QUIETER for loudness in reached),
        bytes=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
    )


@dataclass(frozen=True)
class BaseSpeech:
    """What the base is to say, and how."""

    name: str
    """Under which its clips are kept: ``base``, or with a decoding that is only tried."""
    decoding: DecodingSpec
    prompt_set: PromptSet
    prompts: Sequence[PromptSpec]
    items: Sequence[TextItem] = ()


def base_speech(
    inputs: "Inputs", parts: Sequence[Sequence[PromptSpec]], decoding: DecodingSpec
) -> list[BaseSpeech]:
    """Both prompt sets, as the base of a sweep says them, with the items of both.

    Args:
        inputs: of the sweep.
        parts: set A, see :func:`orchestrator.verdict.protocol.parts_of_a`.
        decoding: of set A; set B has the next seed.
    """
    first, *rest = parts
    of_b = decoding.at({"seed": decoding.seed + 1})
    return [
        BaseSpeech(BASE_VARIANT, decoding, SCREEN, first, inputs.items),
        *(
            BaseSpeech(BASE_VARIANT, decoding, name, part)
            for name, part in shortlist_sets(rest).items()
        ),
        BaseSpeech(
            BASE_VARIANT, of_b, CONFIRMATION, inputs.confirmation, inputs.confirmation_items
        ),
    ]


def prepare_sweep(
    spec: SweepSpec, inputs: "Inputs", storage_url: str, speech: Sequence[BaseSpeech]
) -> tuple[Prepared, int, list[str]]:
    """Prepare the data and synthesise the base's clips; committed ones are left alone.

    Runs in a Ray worker, because the driver loads no model. Also returns the number of clips that
    were encoded, and what a person should know of the texts, which are listened to once.

    Raises:
        InputError: most texts are not what is said; or see
            :func:`jobs.data.prepared.prepare.prepare`.
        ValueError: a training clip is longer than the smallest token budget of a trial.
    """
    from jobs.data.order.batches import check_budget
    from jobs.data.prepared.files import read_prepared

    storage = open_storage(storage_url)
    is_new = not storage.is_committed(Ledger(storage, spec.name).clips(BASE_VARIANT, SCREEN))
    notes = _listen(spec, inputs.clips) if is_new else []
    base, done = _prepare(spec, inputs.clips, storage, lambda done, total: None)
    prepared = read_prepared(storage.fetch(data_key(done.digest)))
    try:
        base.fit_speakers(prepared)
    except ValueError as error:
        hint = "Correct the manifest, or name another base."
        raise InputError([Problem("data.manifest", str(error), hint)]) from error
    if spec.least_batch_tokens is not None:
        training = [clip for clip in prepared if clip.split == "train"]
        lengths = [len(example) for example in base.examples(training)]
        check_budget(spec.least_batch_tokens, lengths, [clip.id for clip in training])
    _speak(spec, base, storage, speech)
    return Prepared(base.digest, done.digest, base.encoder_digest), done.encoded, notes


def speak_base(
    spec: SweepSpec, storage_url: str, data_digest: str, speech: Sequence[BaseSpeech]
) -> None:
    """Synthesise more of the base's clips, once its data is prepared; in a Ray worker too."""
    from jobs.data.prepared.files import read_prepared
    from jobs.families.registry import load_base

    storage = open_storage(storage_url)
    ledger = Ledger(storage, spec.name)
    is_there = (storage.is_committed(ledger.clips(each.name, each.prompt_set)) for each in speech)
    if not all(is_there):
        base = _on_accelerator(load_base(spec.host()))
        base.fit_speakers(read_prepared(storage.fetch(data_key(data_digest))))
        _speak(spec, base, storage, speech)


def _speak(
    spec: SweepSpec, base: "FrozenBase", storage: Storage, speech: Sequence[BaseSpeech]
) -> None:
    from jobs.families.items import answer_items
    from jobs.speech.clips import write_clips

    for each in speech:
        key = Ledger(storage, spec.name).clips(each.name, each.prompt_set)
        if each.prompts and not storage.is_committed(key):
            origin = Origin(each.name, spec.family, spec.data.provenance)
            with storage.commit(key) as directory:
                spoken = base.speak(base.model, each.prompts, each.decoding)
                answers = answer_items(base, base.model, each.items) if each.items else ()
                write_clips(directory, each.prompts, spoken, origin, answers)


def _listen(spec: SweepSpec, clips: Sequence[TargetClip]) -> list[str]:
    """What listening to some clips found, if a recogniser for them is on this machine.

    Raises:
        InputError: most texts are not what is said.
    """
    from jobs.data.checks.listening import listen_to, open_transcriber
    from jobs.metrics.whisper import WHISPER_METRICS

    metrics = (*spec.scoring.metrics, *spec.scoring.finalist_metrics)
    options = [metric.options for metric in metrics if metric.name in WHISPER_METRICS]
    try:
        transcriber = open_transcriber(clips, **next(iter(options), {}))
    except InputError as error:
        return [f"texts were not compared with what is said: {error}"]
    heard = listen_to(clips, transcriber, ", ".join(spec.data.paths), _LISTENED_TO)
    return [str(heard), *notes_of(heard.findings, spec.data.accept)]


def notes_of(findings: "Sequence[Finding]", accepted: Collection[str]) -> list[str]:
    """What listening found, in words.

    Raises:
        InputError: of most clips, and it is not accepted.
    """
    if errors := [
        replace(each.problem, next_step=f"{each.problem.next_step} {_ACCEPT.format(each.rule)}")
        for each in findings
        if each.severity == "error" and each.rule not in accepted
    ]:
        raise InputError(errors)
    return [str(each.problem) for each in findings]


def _prepare(
    spec: SweepSpec,
    clips: Sequence[TargetClip],
    storage: Storage,
    progress: Callable[[int, int], None],
) -> "tuple[FrozenBase, Preparation]":
    from jobs.data.prepared.prepare import prepare
    from jobs.families.registry import load_base

    base = _on_accelerator(load_base(spec.host()))
    return base, prepare(clips, base, storage, spec.data, progress)


def _on_accelerator(base: "FrozenBase") -> "FrozenBase":
    from jobs.families.base import to_accelerator

    to_accelerator(base.model)
    return base
