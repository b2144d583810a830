"""Variables by which a launcher tells a process its rank, and which a host must not inherit.

Slurm scripts, the pods of a PyTorchJob and ``mpirun`` leave them in the environment of whatever is
started there. Importing this module does not import torch.
"""

import os

_PREFIXES = ("OMPI_COMM_WORLD_", "PMI_", "PMIX_", "TORCHELASTIC_")
_NAMES = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("CROSS_RANK", "CROSS_SIZE", "LOCAL_SIZE"),
}


def forget_launcher() -> None:
    """Delete these variables; call before torch, DeepSpeed or transformers are imported."""
    for name in [name for name in os.environ if name in _NAMES or name.startswith(_PREFIXES)]:
        del os.environ[name]
