"""A tiny base, its twin in the official package, and clips of latents."""

import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from jobs.clips import PreparedClip
from jobs.families.base import FrozenBase
from tests.tiny_voxcpm2 import network, random_clips


@pytest.fixture(scope="session")
def tiny(tiny_voxcpm2: FrozenBase) -> Any:
    """A test must leave it as it is."""
    return tiny_voxcpm2


@pytest.fixture(scope="session")
def clips() -> list[PreparedClip]:
    return random_clips()


def load_official(source: Path, **lora: Any) -> Any:
    """A base by the package's own loader, with its LoRA layers if any are asked for."""
    config = network.LoRAConfig(**lora) if lora else None
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        return network.VoxCPM2Model.from_local(
            str(source), optimize=False, device="cpu", lora_config=config
        )


@pytest.fixture(scope="session")
def package(tiny_voxcpm2_source: Path) -> Any:
    """The same weights, loaded by the official package."""
    return load_official(tiny_voxcpm2_source)
