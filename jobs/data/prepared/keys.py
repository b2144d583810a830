"""Storage keys of prepared data and of other folders that belong to no sweep."""

from cluster.storage.base import StorageKey

DATA_FOLDER = "data"
"""Prepared data, shared by all sweeps."""
JOB_FOLDER = "job"
"""Trials of ``python -m jobs``."""

_NAME = 16


def data_digest(recipe: str, content: str) -> str:
    """The digest of a dataset: of its recipe's digest the first digits, of its content's the rest.

    So that what was prepared in one way lies in one folder, and is found there.
    """
    return recipe[:_NAME] + content[_NAME:]


def recipe_key(digest: str) -> str:
    """The folder of every dataset that was prepared as the one with this digest."""
    return f"{DATA_FOLDER}/{digest[:_NAME]}"


def data_key(digest: str) -> StorageKey:
    """Where the prepared data with this digest is kept."""
    return StorageKey(f"{recipe_key(digest)}/{digest[_NAME : 2 * _NAME]}")


def diversity_key(digest: str) -> str:
    """Where the features of the training clips with this digest are kept."""
    return f"{DATA_FOLDER}/diversity-{digest[:_NAME]}"
