"""The package's network and AudioVAE, as this project calls them, and a base's identity.

Notation: n patches, p latents in a patch, c channels of a latent.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from jobs.families.base import device_of
from jobs.families.description import digest_files
from jobs.families.voxcpm2.layout import VERSION
from jobs.families.voxcpm2.noise import VALIDATION
from jobs.families.voxcpm2.text import TOKENIZER_FILE
from jobs.vendor import VOXCPM, voxcpm

_PACKAGE = voxcpm()
_NETWORK = _PACKAGE.model.voxcpm2
_ROTARY = _PACKAGE.modules.minicpm4.model.MiniCPMLongRoPE
WEIGHTS = "model.safetensors"
CODEC_WEIGHTS = "audiovae.safetensors"
_PICKLED = "audiovae.pth"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class LatentModel(_NETWORK.VoxCPM2Model):  # type: ignore[misc, name-defined]
    """The whole network without its AudioVAE, with the forward pass that an engine calls."""

    def forward(self, work: Callable[[nn.Module], list[Tensor]]) -> list[Tensor]:
        """Do ``work`` with the network."""
        return work(self)


class LatentCodec:
    """AudioVAE V2: frozen, in fp32 whatever the model is in, and no part of it."""

    def __init__(self, vae: Any, model: nn.Module, latents: int) -> None:  # noqa: ANN401 (package's)
        """``latents`` make a patch. It works where ``model`` is."""
        self._vae = vae.requires_grad_(False).eval()
        self._model = model
        self._latents = latents
        self.sample_rate = int(vae.sample_rate)
        self.speech_rate = int(vae.out_sample_rate)

    @torch.no_grad()
    def encode(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches (n, p * c) of mono audio (samples,) at ``sample_rate``.

        The mean of the encoder's distribution, so that the same sound always gives the same. Zeros
        fill the last patch, as upstream.
        """
        size = self._vae.chunk_size * self._latents
        padded = np.pad(audio, (0, -len(audio) % size)).astype(np.float32)
        found = self._on_device().encode(
            torch.from_numpy(padded)[None].to(device_of(self._model)), self.sample_rate
        )
        # (1, c, n * p) to (n, p, c)
        patches = found[0].unflatten(1, (-1, self._latents)).permute(1, 2, 0)
        # In order of memory too: what writes it takes what lies there.
        return np.ascontiguousarray(patches.flatten(1).cpu().numpy(), dtype=np.float32)

    @torch.no_grad()
    def decode(self, patches: Tensor) -> NDArray[np.float32]:
        """Mono audio (samples,) at ``speech_rate`` of patches (n, p, c)."""
        latents = patches.flatten(0, 1).t()[None].float().to(device_of(self._model))
        audio: NDArray[np.float32] = self._on_device().decode(latents)[0, 0].cpu().numpy()
        return audio

    def _on_device(self) -> Any:  # noqa: ANN401 (as above)
        """The AudioVAE on the model's device. It is no part of the model, so it is moved here."""
        return self._vae.to(device_of(self._model))


def load_model(source: Path, precision: str) -> tuple[LatentModel, LatentCodec]:
    """A base's network in ``precision``, and its AudioVAE.

    The tables of positions stay in fp32, which upstream's training has too; its inference rounds
    them to bf16 beside a bf16 model.

    Raises:
        FileNotFoundError: the directory lacks a file.
        ValueError: ``config.json`` asks for what is not supported, or weights do not fit it.
    """
    _check_files(source)
    text = (source / "config.json").read_text(encoding="utf-8")
    try:
        config = _NETWORK.VoxCPMConfig.model_validate_json(text)
    except ValueError as error:
        raise ValueError(f"{source / 'config.json'}: {error}") from error
    _check_config(config, source)
    config.device, config.dtype = "cpu", _DTYPES[precision]
    longest, config.max_length = config.max_length, 1  # of a cache that is not used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its old weight_norm
        vae = _NETWORK.AudioVAEV2(config=config.audio_vae_config or _NETWORK.AudioVAEConfigV2())
    _fill(vae, load_file(source / CODEC_WEIGHTS), source / CODEC_WEIGHTS)
    # Neither drawn nor copied: 2.3 billion weights would take a minute and their size again.
    with torch.device("meta"), redirect_stderr(StringIO()):
        model = LatentModel(config, SimpleNamespace(vocab={}), vae, device="cpu")
    del model.audio_vae, model.text_tokenizer
    model.base_lm.kv_cache = model.residual_lm.kv_cache = None
    config.max_length = longest
    dtype = getattr(torch, _DTYPES[precision])
    weights = {name: weight.to(dtype) for name, weight in load_file(source / WEIGHTS).items()}
    _fill(model, weights, source / WEIGHTS)
    restore_positions(model)
    return model, LatentCodec(vae, model, config.patch_size)


def restore_positions(model: nn.Module) -> None:
    """Compute a network's tables of positions, in fp32: a checkpoint does not have them."""
    for module in model.modules():
        if isinstance(module, _ROTARY):
            module._buffers.update(type(module)(module.config)._buffers)


def _fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give a module its weights; no more and no fewer."""
    try:
        module.load_state_dict(dict(weights), assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} must have the weights of config.json: {error}") from error


def _check_files(source: Path) -> None:
    wanted = ("config.json", TOKENIZER_FILE, WEIGHTS, CODEC_WEIGHTS)
    missing = [name for name in wanted if not (source / name).is_file()]
    if not missing:
        return
    if missing == [CODEC_WEIGHTS] and (source / _PICKLED).is_file():
        raise FileNotFoundError(
            f"a voxcpm2 base must have {CODEC_WEIGHTS}, and {source} has {_PICKLED}, a pickle, "
            "which voxsweep does not load; convert it once, in that directory: python -c "
            '"import torch, safetensors.torch as s; '
            f"w = torch.load('{_PICKLED}', weights_only=True); "
            f"s.save_file(w.get('state_dict', w), '{CODEC_WEIGHTS}')\""
        )
    raise FileNotFoundError(
        f"a voxcpm2 base must have {', '.join(missing)}, and {source} has not; download all of "
        "its files"
    )


def _check_config(config: Any, source: Path) -> None:  # noqa: ANN401 (the package's own)
    """What the objective here leaves out, because no released base has it."""
    cfm = config.dit_config.cfm_config
    asked = {
        "dit_config.dit_mean_mode": (config.dit_config.dit_mean_mode, False),
        "dit_config.cfm_config.t_scheduler": (cfm.t_scheduler, "log-norm"),
        "dit_config.cfm_config.noise_cond_scale": (cfm.noise_cond_scale, 0.0),
    }
    wrong = [
        f"{key} must be {want!r}, got {got!r}" for key, (got, want) in asked.items() if got != want
    ]
    if wrong:
        raise ValueError(f"{source / 'config.json'}: {'; '.join(wrong)}; use a released base")


@dataclass(frozen=True)
class LatentDigests:
    """SHA-256, hex."""

    encoder: str
    """Over all that patches depend on besides the recording."""
    base: str
    """Over weights, tokenizer, AudioVAE, layout and what validation draws."""

    @classmethod
    def read(cls, source: Path, fingerprint: str) -> Self:
        """Of a base's directory; reads all of its weights. ``fingerprint`` is the tokenizer's."""
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        codec = [config.get("audio_vae_config"), config.get("patch_size"), version(VOXCPM)]
        encoder = _of(digest_files([source / CODEC_WEIGHTS]), json.dumps(codec, sort_keys=True))
        weights = digest_files([source / "config.json", source / WEIGHTS])
        return cls(encoder, _of(weights, fingerprint, encoder, str(VERSION), VALIDATION))


def _of(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
