"""What many rooms' tests share."""

import os
from pathlib import Path

import pytest

from jobs.families.base import Base
from jobs.families.registry import load_base
from jobs.spec import HostSpec

# A test that starts Ray in this process imports it before ``ray_cluster`` sets the stage, and Ray
# reads these when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture(scope="session")
def embedded_base() -> Base:
    """The shipped base, loaded once; a test must leave it as it is."""
    return load_base(
        HostSpec(
            family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
        )
    )


@pytest.fixture(scope="session")
def tiny_qwen3_tts_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3-TTS base on disk."""
    from tests.tiny_qwen3_tts import write_tiny_qwen3_tts  # seconds to import

    return write_tiny_qwen3_tts(tmp_path_factory.mktemp("qwen3_tts"))


@pytest.fixture(scope="session")
def tiny_qwen3_tts(tiny_qwen3_tts_source: Path) -> Base:
    """It, loaded once; a test must leave it as it is but for the speakers that it knows."""
    return load_base(
        HostSpec(
            family="qwen3_tts",
            source=str(tiny_qwen3_tts_source),
            codec="embedded",
            voice=None,
            precision="fp32",
        )
    )


@pytest.fixture(scope="session")
def process_group() -> None:
    """What training needs of its process: here, a group of one."""
    from jobs.training.engine.start import start_distributed  # seconds to import

    start_distributed()
