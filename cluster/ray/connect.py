"""Connecting to Ray: a local cluster on loopback with token authentication, or a given address."""

import errno
import logging
import os
import signal
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.ray.tokens import MODE, find_token, make_token, redacted

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# glibc returns freed memory to the kernel at once by default, and a training step that allocates
# the same large activations again then spends its time in page faults.
WORKER_ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "TOKENIZERS_PARALLELISM": "false",
}

_LONGEST_FOLDER = 39
"""Bytes of the path of Ray's folder. Linux allows 107 for a socket's, and Ray adds
``/ray/session_2026-11-28_17-26-38_419942_1234567/sockets/plasma_store``."""
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

_START_SECONDS = 300
"""In which Ray must have started. Ray itself waits 30 s for its node, less than a busy machine or a
slow file system may need."""

_LONGEST_REASON = 400
"""Characters of what Ray says that a message has."""
_POLL = 0.5
"""Seconds between two looks at what announces nothing."""

_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""In the environment of a submitted job, whose workers have the code that was sent."""

# Ray has no option to listen on loopback alone: `_node_ip_address="127.0.0.1"` is turned into the
# machine's outward address. This variable, made for desktop systems, is the switch that works.
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster at ``address``, or start one on this machine for the block.

    A local cluster binds to loopback and demands Ray's token, which Ray makes when there is none
    (``~/.ray/auth_token``, or where RAY_AUTH_TOKEN_PATH says).

    What ``cluster.ray.addresses`` says of an address is for whoever names it to ask first.

    Raises:
        ConnectionError: no cluster answers at ``address``, none could be started, or Ray failed in
            the block; with the cause and the way out.
    """
    choose_authentication(local=address is None)
    if address is None:
        os.environ[_LOOPBACK_SWITCH] = "0"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(_START_SECONDS))
        os.environ["RAY_TMPDIR"] = ray_folder()
        if os.environ[MODE].lower() == "token" and find_token() is None:
            make_token()
    os.environ.update({k: v for k, v in WORKER_ENVIRONMENT.items() if k not in os.environ})
    # Ray reads its variables when it is imported.
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        try:
            # A node that is there already answers, or refuses the token, at once.
            with nullcontext() if address else _patient_start():
                ray.init(
                    # "local": without it Ray would join whatever RAY_ADDRESS names.
                    address=address or "local",
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=_job_config(),
                    runtime_env={"env_vars": dict(WORKER_ENVIRONMENT)},
                )
        except SystemExit:  # from the handler of SIGTERM that Ray installs
            raise KeyboardInterrupt from None
        except Exception as error:  # noqa: BLE001 (Ray raises whatever it meets)
            raise ConnectionError(_not_started(error, address)) from None
        if callable(on_sigterm):
            # Instead of Ray's two: one exits, and one prints the stack of every thread.
            signal.signal(signal.SIGTERM, on_sigterm)
        try:
            yield
        except ray.exceptions.RayTaskError:
            raise  # not of Ray, but of what ran in it
        except ray.exceptions.RayError as error:
            what = f"Ray failed: {_shortened(error)}"
            raise ConnectionError(f"{what}. Run the same command again to go on.") from None
    finally:
        ray.shutdown()


def ray_folder() -> str:
    """Where Ray keeps its sockets and logs: where the environment says, unless that is too long."""
    named = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT_FOLDERS[0]
    if len(os.fsencode(named)) <= _LONGEST_FOLDER:
        return named
    usable = (each for each in _SHORT_FOLDERS if os.access(each, os.W_OK | os.X_OK))
    return next(usable, named)


@contextmanager
def _patient_start() -> Iterator[None]:
    """For the block, Ray waits for its own node as long as this module says."""
    from ray._private import services

    get_node: Callable[..., object] = services.get_node

    def wait_for_node(*arguments: object) -> object:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)

    services.get_node = wait_for_node
    try:
        yield
    finally:
        services.get_node = get_node


def _not_started(error: Exception, address: str | None) -> str:
    """Why there is no Ray, and what to do about it."""
    reason = _shortened(error)
    if address is not None:
        return f"no Ray cluster could be joined at {address}: {reason}. Check address and token."
    folder = os.environ["RAY_TMPDIR"]
    step = f"Ray's logs are in {folder}/ray/session_latest/logs"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        step = f"Free space in {folder}, or set RAY_TMPDIR to a short path with space"
    elif isinstance(error, OSError):
        step = f"Set RAY_TMPDIR to a directory that can be written, instead of {folder}"
    elif "timed out during startup" in reason:
        reason = f"its node was not ready after {_START_SECONDS} s"
        step = f"Run the same command again when the machine is less busy. {step}"
    return f"Ray could not be started on this machine: {reason}. {step}."


def _shortened(error: Exception) -> str:
    """What an error says, on one line and without a full stop."""
    said = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
    return redacted(said).rstrip(".")


def _job_config() -> "JobConfig":
    """Has workers import this installation, whatever lies in the directory of the command.

    Ray would put that directory first on their path, where its ``jobs`` or ``cluster.py`` goes
    before ours.
    """
    from ray.job_config import JobConfig

    class OwnCode(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True  # with one, Ray puts no directory of the driver on the workers' path

    here = str(Path(__file__).parents[2])
    is_there = here in sysconfig.get_paths().values() or _OF_A_JOB in os.environ
    return OwnCode(_py_driver_sys_path=[] if is_there else [here])


def choose_authentication(*, local: bool) -> None:
    """Have Ray send its token, unless the environment says otherwise; call before importing Ray.

    ``local``: of a cluster that is started here, which makes a token where there is none. Another
    one, where no token is known, is taken to demand none: it says so if it does.
    """
    os.environ.setdefault(MODE, "token" if local or find_token() else "disabled")
