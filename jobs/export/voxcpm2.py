"""A ``voxcpm2`` voice as voxsweep runs it, and the official package beside it."""

import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.export.load_back import Check
from jobs.export.reference import SENTENCE, reference_base, reference_prompt
from jobs.families.description import tagged
from jobs.families.sampling import row_generator
from jobs.families.voxcpm2.model import restore_positions
from jobs.spec.trial import DecodingSpec
from jobs.speech.voice_files import VoiceFiles
from jobs.vendor import voxcpm

_DECODING = DecodingSpec(max_tokens=5)
"""0.8 s: enough that each patch follows from those before it."""
_TOLERANCE = 5e-3
"""Of samples in [-1, 1]: sums in another order, over five patches of ten steps each."""
_POSITIONS = 512
"""Of the package's cache, for which the released base allocates 8192."""


@dataclass(frozen=True)
class ReferenceSpeech:
    """A text, its speech, and the seed of the noise that it was made of."""

    text: str
    """As the package is given it."""
    audio: NDArray[np.float32]
    seed: int


def reference_speech(voice: VoiceFiles) -> ReferenceSpeech:
    """What the voice says, as voxsweep runs it.

    Raises:
        InputError: see :func:`jobs.export.reference.reference_base`.
    """
    prompt = reference_prompt(voice.facts, SENTENCE, None)
    with reference_base(voice) as base:
        (clip,) = base.speak(base.model, [prompt], _DECODING)
    tag = prompt.language
    text = SENTENCE if tag is None else tagged(SENTENCE, tag)
    seed = row_generator(_DECODING.seed, prompt.id).initial_seed()
    return ReferenceSpeech(text, clip.audio, seed)


def open_package(source: Path, lora: Any = None) -> Any:  # noqa: ANN401 (the package's own)
    """The base in ``source`` by the package's own loader, in fp32, with its LoRA layers if any.

    The loader rounds to what ``config.json`` says, and the tables of positions with it.
    """
    network = voxcpm().model.voxcpm2
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore", FutureWarning)  # its old weight_norm
        package = network.VoxCPM2Model.from_local(
            str(source), optimize=False, device="cpu", lora_config=lora
        )
    package.float().config.dtype = "float32"
    restore_positions(package)
    for lm in (package.base_lm, package.residual_lm):
        lm.setup_cache(1, _POSITIONS, "cpu", torch.float32)
    return package


def compare_speech(package: Any, reference: ReferenceSpeech) -> Check:  # noqa: ANN401 (as above)
    """A loaded package, by its own ``generate``, from the same noise."""
    with torch.random.fork_rng(devices=[]), redirect_stderr(StringIO()):  # its progress bar
        torch.manual_seed(reference.seed)
        audio = package.generate(
            reference.text,
            max_len=_DECODING.max_tokens,
            inference_timesteps=_DECODING.inference_timesteps,
            cfg_value=_DECODING.cfg_value,
        )[0].numpy()
    seconds = len(reference.audio) / package.sample_rate
    what = f"samples of {seconds:.2f} s of speech, largest difference"
    same = audio.shape == reference.audio.shape
    difference = float(np.abs(audio - reference.audio).max()) if same else float("inf")
    return Check(what, difference, _TOLERANCE)
