"""The official package's training pass and its step-by-step generation, with given noise."""

import importlib.util
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.families.voxcpm2.layout import LatentExample
from jobs.vendor import voxcpm

AUDIO_START = 101
# Its room imports datasets and argbind; the file does not.
_PATH = Path(voxcpm().__file__).parent / "training" / "packers.py"
_spec = importlib.util.spec_from_file_location("voxcpm_packers", _PATH)
assert _spec is not None
assert _spec.loader is not None
_packers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_packers)


def packed(model: Any, examples: Sequence[LatentExample]) -> dict[str, Tensor]:
    """The examples as the official packer pads them to a batch, given latents instead of sound."""
    shape = (-1, model.patch_size, model.feat_dim)
    latents = [torch.from_numpy(example.patches).float().view(shape) for example in examples]

    class Packer(_packers.AudioFeatureProcessingPacker):  # type: ignore[misc, name-defined]
        def extract_audio_feats(self, audio_data: Tensor) -> tuple[Tensor, float]:
            found = latents[int(audio_data[0])]
            return found[None], len(found) / 6.25

    class Codec:
        hop_length = 640

    texts = [example.input_ids[: len(example) - len(example.patches) - 1] for example in examples]
    longest = max(map(len, texts))
    text = torch.tensor([[*ids, *[-100] * (longest - len(ids))] for ids in texts])
    count = len(examples)
    packer = Packer(1, 256, model.patch_size, model.feat_dim, Codec())
    batch: dict[str, Tensor] = packer(
        torch.arange(count, dtype=torch.float32)[:, None],
        text.int(),
        torch.ones(count, dtype=torch.long),
        torch.zeros(count, dtype=torch.long),
        [False] * count,
    )
    return batch


def losses(
    model: Any,
    examples: Sequence[LatentExample],
    ours: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Tensor]:
    """What the package's own forward pass gives on its own batch, with the noise of ours."""
    batch = packed(model, examples)
    places = batch["loss_mask"].flatten().nonzero().flatten()
    rows = batch["loss_mask"].numel()

    def spread(values: Tensor) -> Tensor:
        """On all positions, padding and text among them."""
        return torch.rand(rows, *values.shape[1:]).index_copy(0, places, values)

    kept, time = spread(ours["kept"]), spread(ours["time"])
    noise = spread(ours["noise"]).transpose(1, 2)
    uniform = chain([kept], iter(lambda: torch.zeros(rows), None))
    normal = chain([torch.zeros_like(noise)], iter(lambda: noise, None))
    with monkeypatch.context() as patch:
        patch.setattr(model.feat_decoder, "sample_r_t", lambda *_, **__: (time, time))
        patch.setattr(torch, "rand", lambda *_, **__: next(uniform))
        patch.setattr(torch, "randn_like", lambda *_, **__: next(normal))
        names = ("text_tokens", "text_mask", "audio_feats", "audio_mask", "loss_mask")
        found: dict[str, Tensor] = model(
            **{name: batch[name] for name in (*names, "position_ids", "labels")}
        )
    return {name: found[name] for name in ("loss/diff", "loss/stop")}


@torch.no_grad()
def stepped(model: Any, example: LatentExample) -> tuple[Tensor, Tensor]:
    """What conditions each patch (n, 2 * m) and its stop decision (n, 2), with the package's own
    cache, fed with the clip's patches one after another."""
    patches = torch.from_numpy(example.patches).float().view(-1, model.patch_size, model.feat_dim)
    ids = torch.tensor([example.input_ids[: len(example) - len(patches)]])
    model.base_lm.setup_cache(1, 256, "cpu", torch.float32)
    model.residual_lm.setup_cache(1, 256, "cpu", torch.float32)
    states, cache = model.base_lm(inputs_embeds=model.base_lm.embed_tokens(ids), is_causal=True)
    model.base_lm.kv_cache.fill_caches(cache)
    fused = model.fusion_concat_proj(torch.cat([states, torch.zeros_like(states)], dim=-1))
    acoustic, cache = model.residual_lm(inputs_embeds=fused, is_causal=True)
    model.residual_lm.kv_cache.fill_caches(cache)
    hidden, residual = states[:, -1], acoustic[:, -1]
    mus, stops = [], []
    for patch in patches:
        mus.append(torch.cat([model.lm_to_dit_proj(hidden), model.res_to_dit_proj(residual)], -1))
        stops.append(model.stop_head(model.stop_actn(model.stop_proj(hidden))))
        heard = model.enc_to_lm_proj(model.feat_encoder(patch[None, None]))[:, 0]
        at = torch.tensor([model.base_lm.kv_cache.step()])
        hidden = model.fsq_layer(model.base_lm.forward_step(heard, at).clone())
        fused = model.fusion_concat_proj(torch.cat([hidden, heard], dim=-1))
        at = torch.tensor([model.residual_lm.kv_cache.step()])
        residual = model.residual_lm.forward_step(fused, at).clone()
    return torch.cat(mus), torch.cat(stops)
