"""Small specs, written section by section."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_spec

WriteSpec = Callable[..., Path]

SECTIONS = {
    "name": "name: small",
    "family": "family: codec_lm",
    "search": "search: {space: {rank: [2, 4]}}",
    "scoring": "scoring: {metrics: [similarity, word_error], primary: similarity, "
    "min_effect: 0.05}",
}
"""The least that is a spec, each on a line of its own."""


@pytest.fixture
def write_spec(tmp_path) -> WriteSpec:
    """Writes the least spec with sections replaced, added, or left out (None)."""

    def write(**sections: str | None) -> Path:
        lines = {**SECTIONS, **sections}
        path = tmp_path / "spec.yaml"
        path.write_text("\n".join(line for line in lines.values() if line) + "\n")
        return path

    return write


@pytest.fixture
def make_spec(write_spec) -> Callable[..., SweepSpec]:
    """The same, read."""
    return lambda **sections: read_spec(write_spec(**sections))
