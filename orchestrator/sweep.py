"""The main job: prepare, search, judge, report, record. Running it again resumes it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.sources.reading import is_s3
from jobs.data.clips import TargetClip
from jobs.families.registry import adapter_size
from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT, Variant
from jobs.training.epochs import pack_difference
from jobs.training.packing import equality
from orchestrator.context import SweepContext
from orchestrator.errors import InfrastructureError
from orchestrator.hosts.fleet import Fleet, fleet
from orchestrator.hosts.node_requirements import accelerator_of
from orchestrator.ledger import (
    CONFIRMATION,
    HOSTING_FILE,
    PROTOCOL_FILE,
    REPORT_FILE,
    SCREEN,
    VARIANTS_FILE,
    VERDICT_FILE,
    Ledger,
    PromptSet,
    TrialResult,
    shortlist_sets,
)
from orchestrator.records.recorder import Recorder
from orchestrator.records.tracking import mlflow_store
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.report.page import render
from orchestrator.report.report_input import DataReport, ReportInput
from orchestrator.report.stored_clips import stored_clips
from orchestrator.scores import from_ledger
from orchestrator.scores.from_ledger import stored_base_decoding
from orchestrator.scores.stored_ratings import after_listeners
from orchestrator.scores.variants import variant_lines
from orchestrator.search.base_decoding import find_base_decoding
from orchestrator.search.budget import Budget
from orchestrator.search.reports import DAMAGED
from orchestrator.search.study_storage import check_study
from orchestrator.search.synthesis import synthesise_missing
from orchestrator.search.tune import search, train_replicates
from orchestrator.spec.inputs import Inputs
from orchestrator.spec.machine import machine_type
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import protocol_changes, stored_protocol
from orchestrator.status import TrialStatus
from orchestrator.terminal.sweep import SweepProgress
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.decodings import redecoded
from orchestrator.verdict.equivalence import HostedFile, Hosting, judge_equivalence
from orchestrator.verdict.judge import judge
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.power import expected_spreads, weak_rules
from orchestrator.verdict.protocol import Protocol, parts_of_a
from orchestrator.verdict.screen import choose_finalists, choose_shortlist
from orchestrator.verdict.table import ScoreTable, VariantInfo, in_words
from orchestrator.workers.data_report import data_report, measure_data
from orchestrator.workers.hosting import host_file, hosted_id
from orchestrator.workers.preparation import (
    BaseSpeech,
    base_speech,
    prepare_sweep,
    speak_base,
)
from orchestrator.workers.scoring import ScorerPool

_MLFLOW_CONTACT = 30.0
"""Seconds in which MLflow may refuse the sweep before anything is spent."""
_MLFLOW_SILENCE = 30.0
"""Seconds without progress after which the end of a sweep stops waiting for MLflow."""
_MLFLOW_WAIT = 300.0
"""Seconds that the end of a sweep waits for MLflow at most."""

_VERSIONS = ("voxsweep", "torch", "transformers", "peft", "deepspeed", "ray", "optuna", "mlflow")
"""Packages whose versions the page lists."""
_SHOWN = ("epoch", "training_loss", "validation_loss", "objective", "best_variant")
"""What the live table shows of a trial's result."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended."""

    sweep: str
    verdict: Verdict
    table: ScoreTable
    trials: int
    epochs_trained: int
    """By this run; epochs that earlier runs committed are not trained again."""
    report: str
    storage: str
    recorded: bool
    """Whether MLflow has all of the sweep; ``voxsweep records`` adds what it lacks."""

    def to_dict(self) -> dict[str, Any]:
        """The one object that ``voxsweep run --json`` prints."""
        return {
            "sweep": self.sweep,
            "verdict": self.verdict.verdict,
            "variant": self.verdict.variant,
            "trials": self.trials,
            "epochs_trained": self.epochs_trained,
            "report": self.report,
            "storage": self.storage,
            "recorded": self.recorded,
        }


class Sweep:
    """One run of a sweep on the Ray cluster that this process is connected to.

    It also observes the trials while Ray Tune runs them.
    """

    def __init__(
        self, spec: SweepSpec, inputs: Inputs, ledger: Ledger, progress: SweepProgress
    ) -> None:
        self._spec = spec
        self._inputs = inputs
        self._ledger = ledger
        self._progress = progress
        self._directory = ledger.storage.workspace(spec.name)
        self._started = time.time()
        self._undone = ""
        self._epochs_before = self._epochs_committed()
        check_study(spec, ledger, self._directory)
        machine = machine_type(spec, _accelerators())
        self._budget = Budget.of(spec, ledger, machine, inputs)
        slots = spec.hosts * (spec.slots_per_host or 1)
        if not ledger.trials() and (reason := self._budget.refusal(slots)):
            raise InputError([Problem("budget", f"no trial fits: {reason}", "Raise it.")])
        ledger.begin(machine)
        self._budget.note()
        store = mlflow_store(spec.records.mlflow, self._directory)
        self._recorder = Recorder(ledger, spec, store, progress.note)

    def run(self) -> SweepResult:
        """Run to the verdict.

        Raises:
            InputError: what an earlier run of this sweep measured by has changed since.
            InfrastructureError: MLflow answers, but refuses this sweep.
        """
        self._recorder.start()
        self._recorder.await_contact(_MLFLOW_CONTACT)
        context = self._prepare()
        self._progress.stage("loading the base into the hosts, and measuring packs")
        with fleet(context, self._progress.note) as hosts:
            # Only now: it would slow down the packs that hosts have just timed.
            measuring = self._measure_data()
            self._progress.stage("training, speaking, scoring")
            if reason := search(context, hosts, self._directory, self, self._budget):
                asked, begun = self._spec.search.trial_count, len(self._ledger.trials())
                self._leave_undone(f"{asked - begun} of {asked} trials were not begun: {reason}")
            table = from_ledger.ScoredSweep(self._ledger, self._spec, context.protocol).table
            verdict, protocol, table = self._judge(context, hosts, table)
        self._host(context, protocol, table, verdict)
        self._report(protocol, table, verdict, self._data_report(measuring, table))
        self._budget.note(self._undone)
        return SweepResult(
            sweep=self._spec.name,
            verdict=verdict,
            table=table,
            trials=len(self._ledger.trials()),
            epochs_trained=self._epochs_trained,
            report=f"{self._ledger.storage.url}/{self._ledger.path(REPORT_FILE)}",
            storage=self._ledger.storage.url,
            recorded=self._finish_recording(),
        )

    # called by Ray Tune's callback

    def trial_started(self, trial: str) -> None:
        """Show the trial."""
        self._progress.update(TrialStatus.started(self._ledger.trial(trial)))

    def trial_reported(self, result: dict[str, Any]) -> None:
        """Show the epoch, and have it logged to MLflow."""
        trial = result["trial"]
        shown = {name: result[name] for name in _SHOWN if name in result}
        self._progress.update(replace(TrialStatus.started(self._ledger.trial(trial)), **shown))
        for what in result[DAMAGED]:
            self._progress.note(f"{what}; trial {trial} made it again")
        self._budget.note(self._undone)
        self._recorder.enqueue(trial)

    def trial_ended(self, trial: str, result: TrialResult) -> None:
        """Show the end, and have the trial's MLflow run closed."""
        self._progress.end(trial, result.end, result.reason)
        self._budget.note(self._undone)
        self._recorder.enqueue(trial)

    def _leave_undone(self, what: str) -> None:
        """Say and record what the budget left undone."""
        self._undone = "; ".join(filter(None, (self._undone, what)))
        self._budget.note(self._undone)
        self._progress.note(what)

    # stages

    def _prepare(self) -> SweepContext:
        """Prepare the data, and the base's speech and scores that every trial is compared with."""
        spec, storage = self._spec, self._ledger.storage
        self._progress.stage("preparing data and the base's own speech")
        inputs, decoding = self._inputs, spec.variants.decoding
        known, found = stored_protocol(self._ledger), stored_base_decoding(self._ledger)
        added = known.added_after_with(len(inputs.prompts)) if known else ()
        parts = parts_of_a(inputs.prompts, spec.variants.shortlist_after, added)
        is_known = found is not None or spec.variants.decoding_search is None
        speech = base_speech(inputs, parts, decoding.at(found.chosen if found else {}))
        prepared, encoded, notes = self._in_worker(
            prepare_sweep, spec, inputs, storage.url, speech if is_known else []
        )
        self._progress.note(f"{encoded} clips were encoded")
        for note in notes:
            self._progress.note(note)
        protocol = from_ledger.protocol_for(
            spec,
            inputs.prompts,
            inputs.confirmation,
            prepared,
            inputs.items,
            inputs.confirmation_items,
        )
        protocol = self._settle_protocol(protocol)
        for omitted in protocol.omitted:
            self._progress.note(f"without {omitted.name}, which is not required: {omitted.reason}")
        scorers = ScorerPool(spec, storage.url, prepared.data_digest, protocol)
        if protocol.decodings:

            def speak(speech: Sequence[BaseSpeech]) -> None:
                self._in_worker(speak_base, spec, storage.url, prepared.data_digest, speech)

            if not is_known:
                count = len(protocol.decodings)
                self._progress.stage(f"trying {count} decodings of the base")
                protocol = protocol.decoding_as(decoding)
                found = find_base_decoding(self._ledger, protocol, speak, scorers.score)
                speak(base_speech(inputs, parts, decoding.at(found.chosen)))
            assert found is not None
            protocol = protocol.decoding_as(decoding.at(found.chosen))
            self._write_protocol(protocol)
            self._progress.note(f"the base decodes with {in_words(found.chosen)}")
        # Of both sets: a scorer that cannot be loaded is found before the first trial.
        scorers.score([BASE_VARIANT])
        fresh = scorers.score([BASE_VARIANT], CONFIRMATION)
        units = {name: protocol.judged_metrics()[name].unit for name in protocol.deciding_metrics}
        spreads = expected_spreads(units, fresh)
        asked = protocol.confirmation_items
        for weakness in weak_rules(protocol, protocol.confirmation, spreads, asked):
            self._progress.note(weakness)
        return SweepContext(
            spec, storage.url, prepared.base_digest, prepared.data_digest, protocol, scorers
        )

    def _in_worker(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do ``work``, which needs the base, where the clips can be read.

        Raises:
            InputError: base or data are wrong.
            InfrastructureError: the storage or a disk failed.
        """
        options = data_locality(self._inputs.clips, 1, self._spec.resources.gpus_per_rank)
        try:
            done: Result = ray.get(ray.remote(**options)(work).remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            raise _to_user_error(error.cause) or error from None
        return done

    def _judge(
        self, context: SweepContext, hosts: Fleet, screen: ScoreTable
    ) -> tuple[Verdict, Protocol, ScoreTable]:
        """Score the shortlist on the rest of set A and the finalists on set B, and judge.

        Where the spec asks for it, the best checkpoints are tried with other decodings first, and a
        winner's hyperparameters are trained with other seeds at the end.

        Returns:
            The verdict, the protocol with all that set B was used for, and ``screen`` with what was
            tried.
        """
        ledger, protocol = self._ledger, context.protocol

        def score(infos: Sequence[VariantInfo], prompts: PromptSet) -> None:
            variants = [Variant.model_validate(each, from_attributes=True) for each in infos]
            synthesise_missing(context, hosts.pool, variants, prompts)
            context.scorers.score([BASE_VARIANT, *(info.id for info in infos)], prompts)

        of_all_a, shortlist = screen, None
        parts = [*shortlist_sets(protocol.rest_parts)]

        def score_rest(names: Sequence[str]) -> ScoreTable:
            self._progress.stage(f"scoring the best {len(names)} variants on the rest of set A")
            infos = [screen.variants[name] for name in names]
            for part in parts:
                score(infos, part)
            return from_ledger.table_of(ledger, infos, (SCREEN, *parts), protocol)

        if listed := choose_shortlist(Comparison(screen, protocol.screening()), protocol):
            of_all_a = shortlist = score_rest(listed)
        best = choose_finalists(Comparison(of_all_a, protocol)).all if protocol.decodings else []
        if tried := redecoded([screen.variants[name] for name in best], protocol):
            self._progress.stage(f"trying decodings of the best {len(best)} checkpoints")
            score(tried, SCREEN)
            heard = from_ledger.heard_decodings(ledger, screen, protocol)
            infos = [*screen.adapted, *heard]
            screen = from_ledger.table_of(ledger, infos, (SCREEN,), protocol.screening())
            names = [*best, *(info.id for info in tried)]
            part = Comparison(screen.of((BASE_VARIANT, *names)), protocol.screening())
            if more := choose_shortlist(part, protocol):
                of_all_a = shortlist = score_rest([*dict.fromkeys([*listed, *more])])
            else:
                of_all_a = screen.of((BASE_VARIANT, *of_all_a.variants, *names))
        self._progress.stage("confirming the finalists on fresh prompts")
        finalists = choose_finalists(Comparison(of_all_a, protocol)).all
        scored = set(ledger.scored_variants(CONFIRMATION)) & screen.variants.keys()
        used_for = scored - {BASE_VARIANT, *finalists}
        if finalists and used_for:
            before = (*protocol.confirmed_before, *sorted(used_for))
            protocol = protocol.model_copy(update={"confirmed_before": before})
            self._write_protocol(protocol)
            finalists = choose_finalists(Comparison(of_all_a, protocol)).all
        infos, fresh = [screen.variants[name] for name in finalists], protocol.confirming()
        score(infos, CONFIRMATION)
        self._progress.stage("judging")
        confirmation = from_ledger.table_of(ledger, infos, (CONFIRMATION,), fresh)
        verdict = judge(screen, confirmation, protocol, shortlist)
        if verdict.variant and protocol.confirm_seeds:
            winner = screen.variants[verdict.variant]
            replicates = self._replicate(context, hosts, winner)
            score(replicates, CONFIRMATION)
            self._progress.stage("judging the hyperparameters")
            infos += replicates
            confirmation = from_ledger.table_of(ledger, infos, (CONFIRMATION,), fresh)
            verdict = judge(screen, confirmation, protocol, shortlist)
        return after_listeners(ledger, verdict, protocol), protocol, screen

    def _host(
        self, context: SweepContext, protocol: Protocol, table: ScoreTable, verdict: Verdict
    ) -> None:
        """Hear the winner's files for llama.cpp, if the spec asks: no sweep fails by them."""
        kinds, ledger = self._spec.hosting.gguf, self._ledger
        if not kinds or verdict.variant is None:
            return
        self._progress.stage(f"hearing {len(kinds)} files of the winner in llama.cpp")
        sweep = FinishedSweep(ledger, self._spec, protocol, verdict, {**table.variants})
        variant = sweep.variant(None)
        decoding = protocol.confirmation_decoding.at(variant.own_decoding)
        facts = sweep.facts(variant).model_copy(update={"decoding": decoding})
        prompts = [prompt.spec for prompt in protocol.confirmation]
        try:
            # One after another: they are timed.
            figures = {
                kind: ray.get(
                    ray.remote(num_cpus=1)(host_file).remote(
                        ledger.storage.url, facts, kind, prompts
                    )
                )
                for kind in kinds
            }
            context.scorers.score([hosted_id(variant.id, kind) for kind in kinds], CONFIRMATION)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            self._progress.note(f"no file was heard: {type(cause).__name__}: {cause}")
            return
        kinds = tuple(sorted(kinds, key=lambda kind: -figures[kind].bytes))
        winner = table.variants[verdict.variant]
        infos = [replace(winner, id=hosted_id(winner.id, kind)) for kind in kinds]
        rule = protocol.confirming()
        heard = from_ledger.table_of(ledger, [winner, *infos], (CONFIRMATION,), rule)
        names, margins = [info.id for info in infos], self._spec.hosting.margins
        found = judge_equivalence(Comparison(heard, rule), winner.id, names, margins)
        files = tuple(
            HostedFile(type=kind, **asdict(figures[kind]), equivalence=each)
            for kind, each in zip(kinds, found, strict=True)
        )
        passed = [each.type for each in files if each.equivalence.passes]
        machine = ledger.begin().machine or "unknown"
        hosting = Hosting(winner.id, machine, files, passed[-1] if passed else None)
        ledger.write_text(HOSTING_FILE, hosting.to_json() + "\n")
        self._progress.note(f"recommended of the winner's files: {hosting.recommended or 'none'}")

    def _replicate(
        self, context: SweepContext, hosts: Fleet, winner: VariantInfo
    ) -> list[VariantInfo]:
        """The winner's hyperparameters, trained with other seeds."""
        count = context.protocol.confirm_seeds
        self._progress.stage(f"training the winner's hyperparameters with {count} other seeds")
        reason = train_replicates(context, hosts, self._directory, self, self._budget, winner)
        if reason:
            self._leave_undone(f"replicates of the winner were not begun: {reason}")
        return from_ledger.replicate_infos(self._ledger, winner)

    def _settle_protocol(self, protocol: Protocol) -> Protocol:
        """Write the protocol before anything is scored by it, or continue the one that is there.

        Raises:
            InputError: scores of this sweep were made under another protocol.
        """
        if known := stored_protocol(self._ledger):
            if protocol.decodings:  # the base's is found once
                protocol = protocol.decoding_as(known.decoding)
            continued = protocol.continued_from(known)
            if continued is None:
                where, step = self._ledger.path(PROTOCOL_FILE), "Run the spec under another name."
                begun = f"sweep {self._spec.name!r} was started with other"
                changes = protocol_changes(known, protocol)
                raise InputError([Problem(where, f"{begun} {what}", step) for what in changes])
            protocol = continued
        self._write_protocol(protocol)
        return protocol

    def _write_protocol(self, protocol: Protocol) -> None:
        self._ledger.write_text(PROTOCOL_FILE, protocol.model_dump_json(indent=2) + "\n")

    def _measure_data(self) -> "ray.ObjectRef[str]":
        """Start to measure the training clips, unless an earlier run did; nothing waits for it."""
        # It takes no CPU from Ray's count, or it would begin when the trials have ended; its
        # process ends with it, since it has made itself the last in the queue for the CPU.
        options = data_locality(self._inputs.clips, cpus=0, gpus=0)
        task = ray.remote(max_calls=1, **options)(measure_data)
        return task.remote(self._inputs.clips, self._ledger.storage.url)

    def _data_report(self, measuring: "ray.ObjectRef[str]", table: ScoreTable) -> DataReport | str:
        """The report on the training clips, or why there is none: no sweep fails by it."""
        try:
            key = ray.get(measuring)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            reason = f"{type(cause).__name__}: {cause}"
            self._progress.note(f"the training clips could not be measured: {reason}")
            return reason
        texts = [prompt.text for prompt in (*self._inputs.prompts, *self._inputs.confirmation)]
        return data_report(self._ledger, key, self._inputs.clips, texts, table)

    def _report(
        self, protocol: Protocol, table: ScoreTable, verdict: Verdict, data: DataReport | str
    ) -> None:
        """Write the page, and last ``verdict.json``, which completes the sweep."""
        minutes = (time.time() - self._started) / 60
        every = self._spec.training.checkpoint_steps
        unit = "Epochs" if every is None else "Steps"
        facts = [
            ("Storage", f"{self._ledger.storage.url}/{self._spec.name}"),
            ("Wall time of the last run", f"{minutes:.1f} min"),
            (f"{unit} trained by the last run", str(self._epochs_trained * (every or 1))),
            *([("Left undone by the budget", self._undone)] if self._undone else []),
            *((f"{name} version", version(name)) for name in _VERSIONS),
        ]
        size = adapter_size(self._spec.host(), self._spec.largest_training)
        if size is not None:
            told = (
                f"{size.saved_bytes / 1e6:.2f} MB, {size.row_bytes / 1e6:.2f} MB of it trained rows"
            )
            facts.append(("Largest adapter", told))
        trials, replicates = self._ledger.histories(), self._ledger.replicate_histories()
        trained = [losses for trial in (*trials, *replicates) for losses in trial.epochs]
        difference = pack_difference(trained)
        if difference is not None:
            facts.append(("Packs, by the check of the hosts", equality(difference)))
        page = render(
            ReportInput(
                sweep=self._spec.name,
                family=self._spec.family,
                protocol=protocol,
                verdict=verdict,
                table=table,
                trials=trials,
                replicates=replicates,
                decodings=stored_base_decoding(self._ledger),
                hosting=from_ledger.stored_hosting(self._ledger, verdict.variant),
                clips=stored_clips(self._ledger, verdict, table, protocol),
                facts=facts,
                data=data,
            )
        )
        self._ledger.write_text(REPORT_FILE, page)
        variants = [*table.variants.values(), *from_ledger.heard_replicates(self._ledger, table)]
        self._ledger.write_text(VARIANTS_FILE, variant_lines(variants))
        text = verdict.to_json() + "\n"
        if self._ledger.read_text(VERDICT_FILE) != text:
            self._ledger.end()
            self._ledger.write_text(VERDICT_FILE, text)

    def _finish_recording(self) -> bool:
        """Wait a while for MLflow to catch up; return whether it did."""
        self._progress.stage("logging the rest to MLflow")
        self._recorder.enqueue_all()
        trouble = self._recorder.close(_MLFLOW_SILENCE, _MLFLOW_WAIT)
        if trouble:
            later = f"voxsweep records {self._spec.name} --storage {self._ledger.storage.url}"
            self._progress.note(
                f"MLflow at {self._recorder.uri} lacks some of this sweep: {trouble}. "
                f"Log it later: {later}"
            )
        return trouble is None

    @property
    def _epochs_trained(self) -> int:
        """By this run, from the ledger: a process may be killed before it reports an epoch."""
        return self._epochs_committed() - self._epochs_before

    def _epochs_committed(self) -> int:
        records = (*self._ledger.trials(), *self._ledger.replicates())
        return sum(len(self._ledger.epochs(record.id)) for record in records)


def _to_user_error(cause: Exception) -> InputError | InfrastructureError | None:
    """The error of preparation as one that names base or data, or storage or disk, if it does."""
    if isinstance(cause, InputError):
        return cause
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return InfrastructureError(str(cause))
    if isinstance(cause, ValueError | FileNotFoundError):
        return InputError([Problem("base", str(cause), "Correct base or data in the spec.")])
    return None


def _accelerators() -> list[str]:
    """The types of the cluster's GPUs, as Ray names them."""
    resources = (name for node in ray.nodes() for name in node["Resources"])
    return [of for name in resources if (of := accelerator_of(name))]


def data_locality(clips: Sequence[TargetClip], cpus: float, gpus: float) -> dict[str, Any]:
    """Ray's options for a task that reads ``clips``.

    Local files are read on the driver's node, with at most the resources that it has: the head of
    a cluster often has no GPU (a codec runs on a CPU too) and lends out no CPU. Clips in S3 are
    read anywhere.
    """
    if all(is_s3(clip.row.audio) for clip in clips):
        return {"num_cpus": cpus, "num_gpus": gpus}
    here = ray.get_runtime_context().get_node_id()
    (node,) = (each for each in ray.nodes() if each["NodeID"] == here)
    has = node["Resources"]
    return {
        "num_cpus": min(cpus, has.get("CPU", 0)),
        "num_gpus": gpus if has.get("GPU", 0) >= gpus else 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
