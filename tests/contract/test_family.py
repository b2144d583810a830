"""What every family promises; a new one adds a class."""

import pytest

from jobs.families.base import FrozenBase
from jobs.testing.families import FamilyBattery
from tests.toy import CODEBOOK, toy_base


class TestToy(FamilyBattery):
    family = "codec_lm"
    codebook_size = CODEBOOK
    trains_on_encoded = False  # its codec finds tones of more kinds than it has codes

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> FrozenBase:
        return toy_base()


class TestQwen3(TestToy):
    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> FrozenBase:
        return toy_base(architecture="qwen3")


class TestLlama(TestToy):
    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> FrozenBase:
        return toy_base(architecture="llama", tied=False)


class TestEmbedded(FamilyBattery):
    family = "codec_lm"

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, embedded_base: FrozenBase) -> FrozenBase:
        return embedded_base


class TestQwen3TTS(FamilyBattery):
    family = "qwen3_tts"
    max_tokens = 8  # a frame of 16 codes takes a random base its time

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, tiny_qwen3_tts: FrozenBase) -> FrozenBase:
        return tiny_qwen3_tts


class TestVoxCPM2(FamilyBattery):
    family = "voxcpm2"
    max_tokens = 4  # a patch is several passes of the diffusion decoder

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, tiny_voxcpm2: FrozenBase) -> FrozenBase:
        return tiny_voxcpm2
