"""A tiny base, its twin in the official package, and clips of codes."""

from pathlib import Path
from typing import Any

import pytest

from jobs.clips import PreparedClip
from jobs.families.qwen3_tts.base import Qwen3TTS, load
from jobs.vendor import qwen_tts
from tests.tiny_qwen3_tts import random_clips, write_recording


@pytest.fixture(scope="session")
def tiny_source(tiny_qwen3_tts_source: Path) -> Path:
    return tiny_qwen3_tts_source


@pytest.fixture(scope="session")
def recording_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recordings") / "ann.flac")


@pytest.fixture(scope="session")
def tiny(tiny_source: Path) -> Qwen3TTS:
    """A test must leave it as it is."""
    return load(tiny_source, tiny_source, None, "fp32")


@pytest.fixture(scope="session")
def clips(recording_path: Path) -> list[PreparedClip]:
    return random_clips(recording_path)


@pytest.fixture(scope="session")
def package(tiny_source: Path) -> Any:
    """The same weights, loaded by the official package."""
    return qwen_tts().Qwen3TTSModel.from_pretrained(str(tiny_source))
