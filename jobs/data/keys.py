"""Folders of a storage that are no sweep's."""

DATA_FOLDER = "data"
"""Prepared data, shared by all sweeps."""
JOB_FOLDER = "job"
"""Trials of ``python -m jobs``."""


def data_key(digest: str) -> str:
    """Where the prepared data with this digest is kept."""
    return f"{DATA_FOLDER}/{digest[:16]}"


def diversity_key(digest: str) -> str:
    """Where the features of the training clips with this digest are kept."""
    return f"{DATA_FOLDER}/diversity-{digest[:16]}"
