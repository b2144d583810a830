"""A voice of each family."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.families.base import FrozenBase
from jobs.families.registry import load_base
from jobs.spec.trial import TrainingSpec
from jobs.speech.voice_files import VoiceFiles
from tests.embedded_voice import EMBEDDED_HOST
from tests.jobs.export.voices import random_voice


@pytest.fixture(scope="session")
def codec_lm_voice(
    embedded_base: FrozenBase, tmp_path_factory: pytest.TempPathFactory
) -> VoiceFiles:
    return random_voice(tmp_path_factory.mktemp("codec_lm"), embedded_base)


@pytest.fixture(scope="session")
def qwen3_tts_voice(
    tiny_qwen3_tts_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> VoiceFiles:
    """Of two speakers, on a base that has presets; Zoe was met first."""
    from tests.tiny_qwen3_tts import PRESETS, random_clips, write_recording

    directory = tmp_path_factory.mktemp("qwen3_tts")
    source = Path(shutil.copytree(tiny_qwen3_tts_source, directory / "base"))
    config = json.loads((source / "config.json").read_text())
    config["talker_config"]["spk_id"] = PRESETS
    config["talker_config"]["spk_is_dialect"] = dict.fromkeys(PRESETS, False)
    (source / "config.json").write_text(json.dumps(config))
    host = EMBEDDED_HOST.model_copy(update={"family": "qwen3_tts", "source": str(source)})
    base = load_base(host)
    for seed, name in enumerate(("Zoe", "Ann")):
        recording = write_recording(directory / f"{name}.flac", seed=seed)
        base.examples([replace(clip, speaker=name) for clip in random_clips(recording)[:1]])
    return random_voice(directory, base, host)


@pytest.fixture(scope="session")
def voxcpm2_voice(
    tiny_voxcpm2_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> VoiceFiles:
    """It reads texts behind the tag of their language, and has two ranks."""
    host = EMBEDDED_HOST.model_copy(
        update={"family": "voxcpm2", "source": str(tiny_voxcpm2_source), "language_tag": True}
    )
    training = TrainingSpec(rank=4, dit_rank=2)
    return random_voice(tmp_path_factory.mktemp("voxcpm2"), load_base(host), host, training)
