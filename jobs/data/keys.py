"""Where data is kept in a storage; shared by all sweeps."""


def data_key(digest: str) -> str:
    """Where the prepared data with this digest is kept."""
    return f"data/{digest[:16]}"
