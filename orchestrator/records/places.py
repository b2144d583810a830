"""Where MLflow keeps a sweep's runs, and where its pages point to."""

from pathlib import Path

from orchestrator.addresses import is_database
from orchestrator.ledger import Ledger


def local_tracking(directory: Path) -> tuple[str, str]:
    """Tracking URI and artifact location of MLflow's SQLite file and artifact folder there."""
    return f"sqlite:///{directory / 'mlflow.db'}", (directory / "mlartifacts").as_uri()


def tracking_place(asked: str | None, directory: Path) -> tuple[str, str | None]:
    """Tracking URI and artifact location of what a spec asks for.

    A server says itself where artifacts go (None); a database cannot, so they go to ``directory``.
    """
    uri, artifacts = local_tracking(directory)
    if asked is None:
        return uri, artifacts
    return asked, artifacts if is_database(asked) else None


def link(ledger: Ledger, *parts: str) -> str:
    """The URL of something of the sweep's in the storage."""
    return url_of(f"{ledger.storage.url}/{ledger.path(*parts)}")


def url_of(place: str) -> str:
    """A place of a storage as a URL: its own, or a local path's."""
    return place if "://" in place else Path(place).as_uri()
