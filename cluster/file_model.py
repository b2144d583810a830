"""The base of what is read from a cluster's YAML file."""

from pydantic import BaseModel, ConfigDict


class ClusterFileModel(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
