"""Ray Jobs: an opaque command with its files is sent to a cluster, followed and stopped there."""

import asyncio
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from cluster.ray.addresses import unreachable
from cluster.ray.connect import choose_authentication
from cluster.ray.package import Package
from cluster.ray.spec import ClusterSpec
from cluster.ray.tokens import TOKEN_SOURCES, redacted, sends_token

_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables by which Ray would go to another address than the one that was checked."""

_POLL = 0.5
"""Seconds between two looks at what announces nothing."""
_NOT_YET = "No available agent to submit job"
"""What a head answers that has just been started (Ray's job_head.py)."""
_READY_WITHIN = 120.0
"""Seconds; Ray itself waits for 10."""
_STOPPED_WITHIN = 120.0
"""Seconds. Ray itself kills a driver that does not end within 3 (RAY_JOB_STOP_WAIT_TIME_S)."""


@dataclass(frozen=True)
class Submission:
    """A job as it would be sent."""

    id: str
    """Of its first run; one that is submitted again after it ended has ``-r2`` behind it."""
    command: Sequence[str]
    """Run in the package's folder. It is quoted, so that each part of it stays one word."""
    metadata: Mapping[str, str]
    cluster: ClusterSpec
    package: Package

    @property
    def entrypoint(self) -> str:
        """The command as the node's shell reads it. Whatever GPUs the node has, it sees none."""
        return shlex.join(("env", "CUDA_VISIBLE_DEVICES=", *self.command))

    def request(self) -> dict[str, Any]:
        """What Ray Jobs are asked for, but for the id and the package's place."""
        driver, environment = self.cluster.driver, self.cluster.environment
        runtime_env: dict[str, Any] = {"env_vars": dict(environment.env_vars)}
        if environment.pip:
            runtime_env["pip"] = list(environment.pip)
        return {
            "entrypoint": self.entrypoint,
            "entrypoint_num_cpus": driver.cpus,
            "entrypoint_num_gpus": 0,
            "entrypoint_memory": driver.memory,
            "entrypoint_resources": dict(driver.resources) or None,
            "entrypoint_label_selector": dict(driver.labels) or None,
            "metadata": dict(self.metadata),
            "runtime_env": runtime_env,
        }

    def to_dict(self, address: str) -> dict[str, Any]:
        """For JSON: everything that would be sent to ``address``, files by their digests."""
        return {
            "address": address,
            "token": "sent" if sends_token() else "none",
            "submission_id": self.id,
            **self.request(),
            "working_dir": self.package.to_dict(),
        }


@dataclass(frozen=True)
class Job:
    """A job as the cluster has it."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    metadata: Mapping[str, str]
    message: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.status in {"STOPPED", "SUCCEEDED", "FAILED"}


class Jobs:
    """The jobs of one cluster.

    Every method raises ConnectionError where the cluster does not answer, or refuses.
    """

    def __init__(self, address: str) -> None:
        """Connect to ``address``, which ``cluster.ray.addresses`` found nothing wrong with.

        Raises:
            ConnectionError: no cluster answers there, or it does not accept the token.
        """
        self._address = address
        choose_authentication(local=False)
        from ray.job_submission import JobSubmissionClient

        with _without(_OVERRIDES), self._as_connection_errors():
            # TLS certificates are verified: that is the client's default.
            self._client = JobSubmissionClient(address)

    def submit(self, submission: Submission) -> tuple[Job, bool]:
        """The job of this submission, and whether it was started now.

        One that waits, runs or succeeded is left as it is. After one that failed or was stopped,
        another is started, which goes on with what was kept.
        """
        earlier = self._runs_of(submission.id)
        if earlier and earlier[-1].status not in {"STOPPED", "FAILED"}:
            return earlier[-1], False
        id = f"{submission.id}-r{len(earlier) + 1}" if earlier else submission.id
        with tempfile.TemporaryDirectory(prefix="voxsweep-") as folder:
            submission.package.write(Path(folder))
            request = submission.request()
            request["runtime_env"] |= {"working_dir": folder}
            try:
                self._send(id, request)
            except ConnectionError:
                # Somebody may have submitted the same between the two requests.
                if id not in {job.id for job in self._runs_of(submission.id)}:
                    raise
                return self.job(id), False
        return self.job(id), True

    def _send(self, id: str, request: dict[str, Any]) -> None:
        """Submit, once the head is ready for it."""
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            try:
                with self._as_connection_errors():
                    self._client.submit_job(submission_id=id, **request)
                return
            except ConnectionError as error:
                if _NOT_YET not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL)

    def named(self, name: str) -> list[Job]:
        """The jobs of this id, or of the sweep of this name, in the order they were submitted."""
        return [job for job in self._all() if name in (job.id, job.metadata.get("sweep"))]

    def job(self, id: str) -> Job:
        """A job as it is now."""
        with self._as_connection_errors():
            return _job(self._client.get_job_info(id))

    def logs(self, id: str) -> str:
        """What a job has printed so far."""
        with self._as_connection_errors():
            return redacted(self._client.get_job_logs(id))

    def follow(self, id: str, tell: Callable[[str], None]) -> Job:
        """Tell what a job prints, until it has ended; the job as it ended."""

        async def listen() -> None:
            async for lines in self._client.tail_job_logs(id):
                tell(redacted(lines))

        with self._as_connection_errors():
            asyncio.run(listen())
        return self.job(id)

    def stop(self, id: str) -> Job:
        """End a job's driver, and with it all that the driver started; the job once it is over."""
        with self._as_connection_errors():
            self._client.stop_job(id)
        deadline = time.monotonic() + _STOPPED_WITHIN
        while not (job := self.job(id)).has_ended:
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"job {id} was told to stop, but is still {job.status} after "
                    f"{_STOPPED_WITHIN:.0f} s. Run the same command again."
                )
            time.sleep(_POLL)
        return job

    def _runs_of(self, id: str) -> list[Job]:
        """The job of this id and those that were submitted after it ended, in order."""
        runs = {job.id: job for job in self._all()}
        found: list[Job] = []
        while (next_id := f"{id}-r{len(found) + 1}" if found else id) in runs:
            found.append(runs[next_id])
        return found

    def _all(self) -> list[Job]:
        with self._as_connection_errors():
            details = self._client.list_jobs()
        submitted = [each for each in details if each.submission_id is not None]
        return [_job(each) for each in sorted(submitted, key=lambda each: each.start_time or 0)]

    @contextmanager
    def _as_connection_errors(self) -> Iterator[None]:
        """Raise what Ray's client raises as ConnectionError, without the token."""
        import aiohttp
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            what = f"the cluster at {self._address} does not accept the token, or there is none"
            raise ConnectionError(f"{what}. It is read from {TOKEN_SOURCES}.") from None
        except (requests.RequestException, aiohttp.ClientError) as error:
            raise ConnectionError(unreachable(self._address, error)) from None
        except (RuntimeError, ConnectionError) as error:
            raise ConnectionError(redacted(str(error))) from None


def _job(details: Any) -> Job:  # noqa: ANN401 (Ray's JobDetails)
    return Job(
        id=details.submission_id,
        status=details.status.value,
        metadata=details.metadata or {},
        message=redacted(details.message or ""),
    )


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """The block's environment, without some variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
