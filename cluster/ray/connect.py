"""Connecting to Ray: a local cluster on loopback with token authentication, or a given address."""

import logging
import os
import signal
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.ray.tokens import MODE, find_token

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
        ConnectionError: no cluster answers at ``address``.
    """
    choose_authentication(local=address is None)
    if address is None:
        os.environ[_LOOPBACK_SWITCH] = "0"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.update({k: v for k, v in WORKER_ENVIRONMENT.items() if k not in os.environ})
    # Ray reads its variables when it is imported.
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        try:
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
        if callable(on_sigterm):
            # Instead of Ray's two: one exits, and one prints the stack of every thread.
            signal.signal(signal.SIGTERM, on_sigterm)
        yield
    finally:
        ray.shutdown()


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
