"""A plug-in with one entry of each kind. Importing this module loads no model code."""

import os
from pathlib import Path

from cluster.storage.base import LocalStorage, Storage, StorageKind
from jobs.export.formats import Exporter
from jobs.families.description import DataRules, Family
from jobs.families.targets import CODEC_LM_TARGETS

ROOT = "VOXSWEEP_EXAMPLE_ROOT"
"""The environment variable with the directory that ``example://`` stands for."""

FAMILY = Family(
    "voxsweep_example.quiet_lm",
    DataRules(max_seconds=10.0),
    text="jobs.families.codec_lm_text",
    targets=CODEC_LM_TARGETS,
    embedded=True,
    reads_items=True,
)
EXPORTER = Exporter("voxsweep_example.weights")


class _ExampleStorage(LocalStorage):
    def __init__(self, name: str) -> None:
        super().__init__(Path(os.environ[ROOT]) / name)
        self._name = name

    @property
    def url(self) -> str:
        return f"example://{self._name}"


def _open(url: str) -> Storage:
    return _ExampleStorage(url.removeprefix("example://"))


STORAGE = StorageKind(_open)
