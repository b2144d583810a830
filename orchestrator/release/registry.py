"""MLflow's model registry: a version a promoted variant, and who of them is champion."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from orchestrator.addresses import is_database
from orchestrator.errors import InfrastructureError
from orchestrator.records.runs import TRIAL_TAG
from orchestrator.records.sweep_run import SWEEP_TAG
from orchestrator.release.registry_events import (
    Event,
    EventKind,
    holders,
    next_key,
    read_history,
)

CHAMPION: EventKind = "champion"
CANDIDATE = "candidate"
VARIANT_TAG, PROTOCOL_TAG = "voxsweep.variant", "voxsweep.protocol"
REASON_TAG, DEMOTED_TAG = "voxsweep.reason", "voxsweep.demoted"
VERDICT_TAG = "voxsweep.verdict"
_PROMOTED_TAG = "voxsweep.promoted"

for _noisy in ("alembic", "mlflow"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)

_CODE = Path(__file__).with_name("spoken_model.py")
_LONGEST = 5000
"""Characters that a version's description and a tag's value may have in a server's database."""
_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_MODEL_URI = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")


@dataclass(frozen=True)
class Place:
    """Where a registry is."""

    uri: str
    """As MLflow takes it for tracking and registry alike."""
    artifacts: str | None = None
    """Where files go; None where a server knows."""


def registry_place(storage: Storage, asked: str | None = None) -> Place:
    """The registry that ``asked`` names, else ``MLFLOW_TRACKING_URI``, else the storage's own.

    One for all sweeps of a storage, because champions of several sweeps are compared.

    Raises:
        InputError: none is named, and the storage cannot hold one.
    """
    uri = asked or os.environ.get("MLFLOW_TRACKING_URI")
    if uri and not is_database(uri):
        return Place(uri, None)
    if "://" in storage.url:
        # Nothing but its copy on this machine could hold it, and a copy may be deleted.
        what = f"a registry must be named for a storage that is no folder, {storage.url}"
        step = "Start an MLflow server, and give its address: --mlflow or MLFLOW_TRACKING_URI."
        raise InputError([Problem("--mlflow", what, step)])
    root = Path(storage.url)
    return Place(uri or f"sqlite:///{root / 'models.db'}", (root / "mlmodels").as_uri())


def checked_name(name: str) -> str:
    """``name`` if a registered model may have it.

    Raises:
        InputError: it may not; ``/``, ``@`` and ``:`` have a meaning in a model's address.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        what = f"a model's name has letters, digits, '.', '_' and '-', got {name!r}"
        raise InputError([Problem("--model", what, "Choose another.")])
    return name


@dataclass(frozen=True)
class NewVersion:
    """What a version is made of."""

    model: str
    sweep: str
    trial: str
    tags: Mapping[str, str]
    """``VARIANT_TAG`` and ``PROTOCOL_TAG`` among them, which tell versions of a model apart."""
    description: str
    artifacts: Mapping[str, Path]
    """Files and directories by their names in the model; ``voice`` is the voice directory."""
    example: str
    """A text that the voice can say."""
    optional: tuple[str, ...] = ()
    """Columns beside ``text`` that its users may fill."""


@dataclass(frozen=True)
class Version:
    """A version as the registry has it."""

    model: str
    number: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """As MLflow loads it."""
        return f"models:/{self.model}/{self.number}"


class Registry:
    """Every method raises InfrastructureError when MLflow does not answer."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with _answering(place.uri):
            self._client = MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)

    def find(self, model: str, tags: Mapping[str, str]) -> Version | None:
        """The version of ``model`` with these tags, if there is one."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        with _answering(self.place.uri):
            found = self._client.search_model_versions(f"name = '{model}' and {wanted}")
        return _version(found[0]) if found else None

    def add(self, new: NewVersion) -> Version:
        """Log the model and register it as the next version."""
        with _answering(self.place.uri), _current(self.place.uri):
            experiment = self._experiment(new.sweep)
            run_id = self._open_run(new, experiment)
            logged = self._client.create_logged_model(
                experiment, name=new.model, source_run_id=run_id
            )
            with TemporaryDirectory() as folder:
                # Not log_model: to try the example it would load the base into this process.
                path = Path(folder) / "model"
                mlflow.pyfunc.save_model(
                    path=str(path),
                    python_model=str(_CODE),
                    artifacts={name: str(path) for name, path in new.artifacts.items()},
                    signature=_signature(new.optional),
                    input_example=[{"text": new.example}],
                    pip_requirements=[f"voxsweep=={installed('voxsweep')}"],
                )
                self._client.log_model_artifacts(logged.model_id, str(path))
            self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
            self._client.set_terminated(run_id)
            if self._registered(new.model) is None:
                self._client.create_registered_model(new.model, tags={SWEEP_TAG: new.sweep})
            made = self._client.create_model_version(
                new.model,
                f"models:/{logged.model_id}",
                run_id,
                tags={key: value[:_LONGEST] for key, value in new.tags.items()},
                description=_shortened(new.description),
                model_id=logged.model_id,
            )
        return _version(made)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with _answering(self.place.uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(
                    version.model, version.number, key, value[:_LONGEST]
                )

    def holder(self, model: str, alias: str = CHAMPION) -> Version | None:
        """Who has the alias."""
        with _answering(self.place.uri):
            if self._registered(model) is None:
                return None
            number = self._aliases(model).get(alias)
            return None if number is None else self._meant(model, None, number)

    def crown(self, version: Version, reason: str, kind: EventKind = CHAMPION) -> None:
        """Make a version the champion; the same again changes nothing."""
        with _answering(self.place.uri):
            # The history first: whoever dies in between is crowned by the same command again.
            aliases = self._aliases(version.model)
            is_last = self._history(version.model)[-1:] == [version.number]
            if not is_last or aliases.get(CHAMPION) != version.number:
                self._record(version.model, kind, version.number, reason)
            self._client.set_registered_model_alias(version.model, CHAMPION, version.number)
            if aliases.get(CANDIDATE) == version.number:
                self._client.delete_registered_model_alias(version.model, CANDIDATE)
            self.tag(version, {REASON_TAG: reason})

    def nominate(self, version: Version, reason: str) -> None:
        """Give a version the alias ``candidate``, and say why it is not the champion."""
        with _answering(self.place.uri):
            self._client.set_registered_model_alias(version.model, CANDIDATE, version.number)
            self.tag(version, {REASON_TAG: reason})

    def demote(self, name: str, reason: str) -> Version | None:
        """Take ``champion`` away from whom ``name`` means: the model's, or that version.

        Returns:
            Who lost it; None where that version did not have it, or nobody did.

        Raises:
            InputError: there is no such model, alias or version.
        """
        model, alias, number = _parsed(name)
        with _answering(self.place.uri):
            self._known(model)
            meant = self._meant(model, alias, number) if alias or number else None
            champion = self.holder(model)
            if champion is None or (meant and meant.number != champion.number):
                return None
            self._record(model, "demoted", champion.number, reason)
            said = f"{_now()}: {reason or 'no reason was given'}"
            self.tag(champion, {DEMOTED_TAG: said, REASON_TAG: f"demoted at {said}"})
            self._client.delete_registered_model_alias(model, CHAMPION)
            return champion

    def rollback(self, model: str, reason: str) -> Version:
        """Give ``champion`` back to the version that had it before.

        Raises:
            InputError: there is no such model, or nobody had it before.
        """
        with _answering(self.place.uri):
            self._known(model)
            champion = self.holder(model)
            before = [n for n in self._history(model) if not champion or n != champion.number]
            if not before:
                what = f"another version of {model} must have been champion before, but none was"
                raise InputError([Problem(self.place.uri, what, "Promote one.")])
            version = self._meant(model, None, before[-1])
            self.crown(version, reason or "rolled back", "rollback")
            return version

    def meant(self, uri: str) -> Version:
        """The version that ``models:/NAME@alias`` or ``models:/NAME/VERSION`` means.

        Raises:
            InputError: it is neither, or there is no such version.
        """
        found = _MODEL_URI.fullmatch(uri)
        if found is None:
            what = f"a registered model is models:/NAME@alias or models:/NAME/VERSION, got {uri!r}"
            raise InputError([Problem(self.place.uri, what, "Correct it.")])
        with _answering(self.place.uri):
            return self._meant(*found.groups())

    def download(self, version: Version, artifact: str) -> Path:
        """Where one of a version's artifacts can be read."""
        with _answering(self.place.uri), _current(self.place.uri):
            uri = f"{version.uri}/artifacts/{artifact}"
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))

    def history(self, model: str) -> list[Event]:
        """What happened to a model's champions."""
        with _answering(self.place.uri):
            return read_history(self._known(model).tags)

    def _meant(self, model: str, alias: str | None, number: str | None) -> Version:
        what = f"alias {alias!r}" if alias else f"version {number}"
        aliases = self._aliases(model)
        try:
            if alias:
                return _version(self._client.get_model_version_by_alias(model, alias))
            return _version(self._client.get_model_version(model, str(number)))
        except MlflowException as error:
            if error.error_code not in (_NOT_FOUND, "INVALID_PARAMETER_VALUE"):
                raise
            has = ", ".join(f"{a} (version {n})" for a, n in aliases.items())
            step = f"It has {has}." if has else "It has no alias: name a version."
            told = Problem(self.place.uri, f"{model} must have {what}, but has not", step)
            raise InputError([told]) from None

    def _known(self, model: str) -> RegisteredModel:
        registered = self._registered(model)
        if registered is None:
            names = [each.name for each in self._client.search_registered_models(max_results=20)]
            step = f"There are {', '.join(names)}." if names else "Promote a sweep first."
            what = f"a registered model must be there, and there is no {model!r}"
            raise InputError([Problem(self.place.uri, what, step)])
        return registered

    def _registered(self, model: str) -> RegisteredModel | None:
        try:
            return self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code == _NOT_FOUND:
                return None
            raise

    def _aliases(self, model: str) -> dict[str, str]:
        """Versions by alias."""
        return {alias: str(number) for alias, number in self._known(model).aliases.items()}

    def _history(self, model: str) -> list[str]:
        return holders(read_history(self._known(model).tags))

    def _record(self, model: str, kind: EventKind, number: str, reason: str) -> None:
        event = Event(_now(), kind, number, reason[: _LONGEST // 2])
        key = next_key(self._known(model).tags)
        self._client.set_registered_model_tag(model, key, event.to_json())

    def _experiment(self, sweep: str) -> str:
        """The sweep's, or a new one."""
        known = self._client.get_experiment_by_name(sweep)
        if known is not None:
            return str(known.experiment_id)
        made = self._client.create_experiment(sweep, artifact_location=self.place.artifacts)
        return str(made)

    def _open_run(self, new: NewVersion, experiment: str) -> str:
        """A run for the model: below its trial's, where this is the MLflow that knows the sweep."""
        variant = new.tags[VARIANT_TAG]
        tags = {_PROMOTED_TAG: variant, MLFLOW_RUN_NAME: f"promoted {variant}"}
        found = self._client.search_runs([experiment], f"tags.`{TRIAL_TAG}` = '{new.trial}'")
        if found:
            tags[MLFLOW_PARENT_RUN_ID] = found[0].info.run_id
        return str(self._client.create_run(experiment, tags=tags).info.run_id)


def _signature(optional: Sequence[str]) -> ModelSignature:
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "text")]
    columns += [ColSpec(DataType.string, name, required=False) for name in optional]
    given: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "audio"),
        ColSpec(DataType.long, "sample_rate"),
        ColSpec(DataType.double, "seconds"),
        ColSpec(DataType.string, "problem"),
    ]
    return ModelSignature(Schema(columns), Schema(given))


def _parsed(name: str) -> tuple[str, str | None, str | None]:
    """``NAME``, ``NAME@alias`` or ``NAME/VERSION``, with or without ``models:/`` before it."""
    plain = name.removeprefix("models:/")
    found = _MODEL_URI.fullmatch(f"models:/{plain}")
    return (found[1], found[2], found[3]) if found else (plain, None, None)


def _version(found: ModelVersion) -> Version:
    return Version(found.name, str(found.version), dict(found.tags))


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    end = "\n\n... the whole card is `artifacts/README.md` of this version."
    return text[: text.rindex("\n", 0, _LONGEST - len(end))] + end


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _current(uri: str) -> Iterator[None]:
    """For the block, MLflow's fluent calls go there."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        # Not what was asked for before: that may have been the environment's word, which would be
        # taken for the program's own from then on. Nobody here sets another.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # it takes it
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]  # as above
        for name, value in before.items():  # which MLflow sets too
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        raise InfrastructureError(
            f"MLflow's model registry must answer at {uri}, but: {error}. Start it, or name "
            "another with --mlflow."
        ) from error
