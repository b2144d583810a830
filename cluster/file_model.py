"""The base of what is read from a cluster's YAML file."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ClusterFileModel(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    holds_secrets: ClassVar[bool] = False
    """Whether a value may be a secret, which messages must not quote."""
