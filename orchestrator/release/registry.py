"""MLflow's model registry: a version for each promoted variant, which is champion, and why."""

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import mlflow
import requests
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from orchestrator.addresses import redacted
from orchestrator.errors import InfrastructureError
from orchestrator.records.runs import SWEEP_TAG, TRIAL_TAG
from orchestrator.records.tracking import (
    MlflowStore,
    find_experiment,
    mlflow_store,
    open_client,
)

EventKind = Literal["champion", "demoted", "rollback"]
CHAMPION: EventKind = "champion"
CANDIDATE = "candidate"
VARIANT_TAG, PROTOCOL_TAG = "voxsweep.variant", "voxsweep.protocol"
REASON_TAG, DEMOTED_TAG = "voxsweep.reason", "voxsweep.demoted"
VERDICT_TAG = "voxsweep.verdict"
_PROMOTED_TAG = "voxsweep.promoted"
_HISTORY_TAG = "voxsweep.history."
"""Before the number of an event, from 0001 on."""

_OUTPUT = (
    ("string", "audio"),
    ("long", "sample_rate"),
    ("double", "seconds"),
    ("string", "problem"),
)
"""Columns of what a registered voice answers, each with its type."""
_CODE = Path(__file__).with_name("spoken_model.py")
_LONGEST = 5000
"""Characters that a version's description and a tag's value may have in a server's database."""
_ANSWER_SECONDS = 8.0
"""In which a server must answer at all."""
_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_NO_VERSION = (_NOT_FOUND, "INVALID_PARAMETER_VALUE")
_MODEL_URI = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")


def registry_store(storage: Storage, address: str | None = None) -> MlflowStore:
    """The registry at ``address``, else at ``MLFLOW_TRACKING_URI``, else the storage's own.

    One for all sweeps of a storage, because champions of several sweeps are compared.

    Raises:
        InputError: none is named, and the storage cannot hold one.
    """
    store = mlflow_store(
        address or os.environ.get("MLFLOW_TRACKING_URI"),
        Path(storage.url),
        database="models.db",
        artifacts="mlmodels",
    )
    if store.artifacts and "://" in storage.url:
        # Nothing but its copy on this machine could hold it, and a copy may be deleted.
        what = f"a registry must be named for a storage that is no folder, {storage.url}"
        step = "Start an MLflow server, and give its address: --mlflow or MLFLOW_TRACKING_URI."
        raise InputError([Problem("--mlflow", what, step)])
    return store


def checked_name(name: str) -> str:
    """Returns ``name`` if a registered model may have it.

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
    tags: Mapping[str, str]
    """Among them those of sweep, trial, variant and protocol, which tell versions apart."""
    description: str
    artifacts: Mapping[str, Path]
    """Files and directories by their names in the model; ``voice`` is the voice directory."""
    example: Mapping[str, str]
    """A row of its input that the voice can say."""
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


@dataclass(frozen=True)
class RegistryEvent:
    """Something that happened to the alias ``champion``."""

    at: str
    """UTC, as ISO 8601 writes it."""
    event: EventKind
    version: str
    reason: str


class Registry:
    """Every method raises InfrastructureError when MLflow does not answer."""

    def __init__(self, store: MlflowStore, *, must_exist: bool = False) -> None:
        """``must_exist``: nothing is to be written, so no file of a registry is made.

        Raises:
            InputError: there is none.
        """
        self.store = store
        if must_exist and store.file is not None and not store.file.is_file():
            what = f"a registry must be there, but there is no {store.file}"
            step = "Promote a sweep first, or name the --storage or --mlflow that has it."
            raise InputError([Problem(str(store.file), what, step)])
        with self._answering():
            if store.uri.startswith("http"):
                # Any answer will do: MLflow itself tries for two minutes.
                requests.get(store.uri, timeout=_ANSWER_SECONDS, stream=True).close()
            self._client = open_client(store)

    def find(self, model: str, tags: Mapping[str, str]) -> Version | None:
        """The version of ``model`` with these tags and its files, if there is one."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        with self._answering():
            found = self._client.search_model_versions(f"name = '{model}' and {wanted}")
        versions = map(_version, found)
        return next((version for version in versions if self.has_files(version)), None)

    def add(self, new: NewVersion) -> Version:
        """Log the model and register it as the next version."""
        with self._answering():
            sweep = new.tags[SWEEP_TAG]
            experiment, _ = find_experiment(self._client, sweep, self.store.artifacts)
            run_id = self._open_run(new, experiment)
            logged = self._client.create_logged_model(
                experiment, name=new.model, source_run_id=run_id
            )
            from mlflow.models import ModelSignature  # with pandas: a second to whoever only reads
            from mlflow.types import ColSpec, Schema

            columns = (ColSpec("string", name, required=False) for name in new.optional)
            inputs = Schema([ColSpec("string", "text"), *columns])
            outputs = Schema([ColSpec(kind, name) for kind, name in _OUTPUT])
            with TemporaryDirectory() as folder:
                # Not log_model: to try the example it would load the base into this process.
                path = Path(folder) / "model"
                mlflow.pyfunc.save_model(
                    path=str(path),
                    python_model=str(_CODE),
                    artifacts={name: str(path) for name, path in new.artifacts.items()},
                    signature=ModelSignature(inputs, outputs),
                    input_example=[dict(new.example)],
                    pip_requirements=[f"voxsweep=={installed('voxsweep')}"],
                )
                self._client.log_model_artifacts(logged.model_id, str(path))
            self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
            self._client.set_terminated(run_id)
            if self._registered(new.model) is None:
                self._client.create_registered_model(new.model, tags={SWEEP_TAG: sweep})
            made = self._client.create_model_version(
                new.model,
                logged.artifact_location,  # models:/ID is looked up where MLflow's globals say
                run_id,
                tags={key: value[:_LONGEST] for key, value in new.tags.items()},
                description=_shortened(new.description),
                model_id=logged.model_id,
            )
        return _version(made)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._answering():
            for key, value in tags.items():
                self._client.set_model_version_tag(
                    version.model, version.number, key, value[:_LONGEST]
                )

    def holder(self, model: str, alias: str = CHAMPION) -> Version | None:
        """The version that has the alias; None if none has, or there is no such model."""
        with self._answering():
            registered = self._registered(model)
            number = registered.aliases.get(alias) if registered else None
            return None if number is None else self._version(model, str(number))

    def set_champion(self, version: Version, reason: str, event: EventKind = CHAMPION) -> None:
        """Make a version the champion; the same again changes nothing."""
        model, number = version.model, version.number
        with self._answering():
            # The history first: after a crash in between, the same command does the rest.
            registered = self._known(model)
            last = former_champions(_read_history(registered.tags))[-1:]
            if last != [number] or str(registered.aliases.get(CHAMPION)) != number:
                self._record(model, event, number, reason)
            self._client.set_registered_model_alias(model, CHAMPION, number)
            if str(registered.aliases.get(CANDIDATE)) == number:
                self._client.delete_registered_model_alias(model, CANDIDATE)
            self.tag(version, {REASON_TAG: reason})

    def set_candidate(self, version: Version, reason: str) -> None:
        """Give a version the alias ``candidate``, and say why it is not the champion."""
        with self._answering():
            self._client.set_registered_model_alias(version.model, CANDIDATE, version.number)
            self.tag(version, {REASON_TAG: reason})

    def demote(self, name: str, reason: str) -> Version | None:
        """Take ``champion`` from a model, or from one version of it.

        Args:
            name: ``NAME``, ``NAME@alias`` or ``NAME/VERSION``.
            reason: for the history.

        Returns:
            The version that lost it; None where that version did not have it, or none had.

        Raises:
            InputError: there is no such model, alias or version.
        """
        with self._answering():
            if found := _MODEL_URI.fullmatch(f"models:/{name.removeprefix('models:/')}"):
                model, wanted = found[1], self._resolve(*found.groups()).number
            else:
                model, wanted = name.removeprefix("models:/"), None
                self._known(model)
            champion = self.holder(model)
            if champion is None or wanted not in (None, champion.number):
                return None
            self._record(model, "demoted", champion.number, reason)
            line = f"{_now()}: {reason or 'no reason was given'}"
            self.tag(champion, {DEMOTED_TAG: line, REASON_TAG: f"demoted at {line}"})
            self._client.delete_registered_model_alias(model, CHAMPION)
            return champion

    def rollback(self, model: str, reason: str) -> Version:
        """Give ``champion`` back to the version that had it before.

        Raises:
            InputError: there is no such model, or no version had it before.
        """
        with self._answering():
            champion = self.holder(model)
            former = former_champions(self.history(model))
            before = [number for number in former if not champion or number != champion.number]
            if not before:
                what = f"another version of {model} must have been champion before, but none was"
                raise InputError([Problem(self.store.uri, what, "Promote one.")])
            version = self._version(model, before[-1])
            self.set_champion(version, reason or "rolled back", "rollback")
            return version

    def resolve(self, uri: str) -> Version:
        """The version at ``models:/NAME@alias`` or ``models:/NAME/VERSION``.

        Raises:
            InputError: it is neither, or there is no such version.
        """
        found = _MODEL_URI.fullmatch(uri)
        if found is None:
            what = f"a registered model is models:/NAME@alias or models:/NAME/VERSION, got {uri!r}"
            raise InputError([Problem(self.store.uri, what, "Correct it.")])
        with self._answering():
            return self._resolve(*found.groups())

    def download(self, version: Version, artifact: str) -> Path:
        """Where one of a version's artifacts can be read.

        Raises:
            InputError: its files are gone.
        """
        if not self.has_files(version):
            what = f"the files of {version.uri} must be there, but are gone"
            raise InputError([Problem(self.store.uri, what, "Promote its sweep again.")])
        with self._answering():
            files = self._client.get_model_version_download_uri(version.model, version.number)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{files}/artifacts/{artifact}", tracking_uri=self.store.uri
                )
            )

    def has_files(self, version: Version) -> bool:
        """Whether a version's files are where the registry says."""
        with self._answering():
            files = self._client.get_model_version_download_uri(version.model, version.number)
            return bool(
                mlflow.artifacts.list_artifacts(
                    artifact_uri=f"{files}/artifacts", tracking_uri=self.store.uri
                )
            )

    def history(self, model: str) -> list[RegistryEvent]:
        """What happened to a model's champions. Raises InputError: there is no such model."""
        with self._answering():
            return _read_history(self._known(model).tags)

    def _resolve(self, model: str, alias: str | None, number: str | None) -> Version:
        aliases = {name: str(of) for name, of in self._known(model).aliases.items()}
        try:
            return self._version(model, str(aliases[alias] if alias else number))
        except (KeyError, MlflowException) as error:
            if isinstance(error, MlflowException) and error.error_code not in _NO_VERSION:
                raise
            what = f"alias {alias!r}" if alias else f"version {number}"
            has = ", ".join(f"{name} (version {of})" for name, of in aliases.items())
            step = f"It has {has}." if has else "It has no alias: name a version."
            problem = Problem(self.store.uri, f"{model} must have {what}, but has not", step)
            raise InputError([problem]) from None

    def _version(self, model: str, number: str) -> Version:
        return _version(self._client.get_model_version(model, number))

    def _known(self, model: str) -> RegisteredModel:
        registered = self._registered(model)
        if registered is None:
            names = [each.name for each in self._client.search_registered_models(max_results=20)]
            step = f"There are {', '.join(names)}." if names else "Promote a sweep first."
            what = f"a registered model must be there, and there is no {model!r}"
            raise InputError([Problem(self.store.uri, what, step)])
        return registered

    def _registered(self, model: str) -> RegisteredModel | None:
        try:
            return self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code == _NOT_FOUND:
                return None
            raise

    def _record(self, model: str, kind: EventKind, number: str, reason: str) -> None:
        event = RegistryEvent(_now(), kind, number, reason[: _LONGEST // 2])
        keys = [key for key in self._known(model).tags if key.startswith(_HISTORY_TAG)]
        last = max((int(key.removeprefix(_HISTORY_TAG)) for key in keys), default=0)
        key = f"{_HISTORY_TAG}{last + 1:04d}"
        self._client.set_registered_model_tag(model, key, json.dumps(asdict(event)))

    def _open_run(self, new: NewVersion, experiment: str) -> str:
        """A run for the model: below its trial's, where this is the MLflow that knows the sweep."""
        variant = new.tags[VARIANT_TAG]
        tags = {_PROMOTED_TAG: variant, MLFLOW_RUN_NAME: f"promoted {variant}"}
        of_trial = f"tags.`{TRIAL_TAG}` = '{new.tags[TRIAL_TAG]}'"
        found = self._client.search_runs([experiment], of_trial)
        if found:
            tags[MLFLOW_PARENT_RUN_ID] = found[0].info.run_id
        return str(self._client.create_run(experiment, tags=tags).info.run_id)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, OSError, SQLAlchemyError, sqlite3.Error, ImportError) as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines() or [repr(error)]
            step = "Start it, or name another with --mlflow."
            if isinstance(error, ImportError | NoSuchModuleError):
                step = "Install the database's Python driver, or name another with --mlflow."
            elif self.store.file is not None:
                step = f"Check that {self.store.file} can be read and written, and has space."
            raise InfrastructureError(
                f"MLflow's model registry must answer at {redacted(self.store.uri)}, but: "
                f"{redacted(said[0]).rstrip('.')}. {step}"
            ) from None


def _version(found: ModelVersion) -> Version:
    return Version(found.name, str(found.version), dict(found.tags))


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    end = "\n\n... the whole card is `artifacts/README.md` of this version."
    return text[: text.rindex("\n", 0, _LONGEST - len(end))] + end


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_history(tags: Mapping[str, str]) -> list[RegistryEvent]:
    """The events among a registered model's tags, in their order."""
    keys = sorted(key for key in tags if key.startswith(_HISTORY_TAG))
    return [RegistryEvent(**json.loads(tags[key])) for key in keys]


def former_champions(events: Iterable[RegistryEvent]) -> list[str]:
    """Versions that a rollback can go back to, the latest last; a demoted one is not among them.

    >>> events = [RegistryEvent("", "champion", v, "") for v in ("1", "2", "3")]
    >>> former_champions([*events, RegistryEvent("", "rollback", "2", "")])
    ['1', '2']
    >>> former_champions([*events, RegistryEvent("", "demoted", "3", "")])
    ['1', '2']
    """
    stack: list[str] = []
    for event in events:
        if event.event == "rollback":
            while stack and stack[-1] != event.version:
                stack.pop()
        stack = [version for version in stack if version != event.version]
        if event.event != "demoted":
            stack.append(event.version)
    return stack
