"""The shipped defaults: a small language model that speaks digits, its codec, its judge, a voice.

They need no download and no GPU. `assets/README.md` says what each is and how it was made.
"""

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
BASE_DIR = _ASSETS / "base"
CODEC_DIR = _ASSETS / "codec"
RECOGNISER_DIR = _ASSETS / "recogniser"
VOICE_DIR = _ASSETS / "voice"
PROMPTS_DIR = _ASSETS / "prompts"
