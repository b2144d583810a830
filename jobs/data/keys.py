"""Where data is kept in a storage; shared by all sweeps."""

DATA_FOLDER = "data"
"""The folder beside those of the sweeps."""


def data_key(digest: str) -> str:
    """Where the prepared data with this digest is kept."""
    return f"{DATA_FOLDER}/{digest[:16]}"
