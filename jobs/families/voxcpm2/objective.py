"""The objective: flow matching of every patch, and when to stop.

The language models read a clip once. A patch is predicted from their states at the position before
it and from the patch before it: the diffusion decoder is given the patch between sound and noise at
some time, and predicts what leads from the one to the other. Whether it is the last is predicted
from the base model's state alone. The package computes the same for all positions, padding and
text among them, and multiplies most by zero; here the diffusion decoder runs on patches alone.

Notation: t positions of all clips of all batches, n patches, d the language models' width, m the
diffusion decoder's, p latents in a patch, c channels of a latent.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jobs.families.base import Batch, RowShare
from jobs.families.voxcpm2.decoder import decode

PARTS = ("loss_diff", "loss_stop")
"""As the package's script names them."""


class Conditions(NamedTuple):
    """What n patches are predicted from."""

    mu: Tensor
    """(n, 2 * m): both language models' states at the position before, projected."""
    states: Tensor
    """(n, d): the base model's, from which stopping is predicted."""


def conditions(model: Any, batches: Sequence[Batch], share: RowShare) -> Conditions:  # noqa: ANN401
    """Of all patches of all ``batches``, in one pass of each network."""
    lengths = [batch["lengths"].tolist() for batch in batches]
    sizes = [sum(each) for each in lengths]
    counts = [len(batch["patches"]) for batch in batches]
    starts = list(accumulate(sizes, initial=0))[:-1]
    text = torch.cat([batch["text"] for batch in batches])
    text_at = _moved(batches, "text_at", starts)
    patch_at = _moved(batches, "patch_at", starts)
    clips = [length for each in lengths for length in each]

    heard = hear(model, torch.cat([batch["patches"] for batch in batches]), counts, share)
    embedded = embed(model, text)
    row = embedded.new_zeros(sum(sizes), embedded.shape[-1]).index_copy(0, text_at, embedded)
    with share(sizes):
        hidden = decode(model.base_lm, row.index_copy(0, patch_at, heard), clips)
    hidden = hidden.index_copy(0, patch_at, quantised(model.fsq_layer, hidden[patch_at]))
    beside = torch.zeros_like(hidden).index_copy(0, patch_at, heard)
    with share(sizes):
        fused = model.fusion_concat_proj(torch.cat([hidden, beside], dim=-1))
        residual = decode(model.residual_lm, fused, clips)
    states = hidden[patch_at - 1]
    return Conditions(projected(model, states, residual[patch_at - 1], counts, share), states)


def embed(model: Any, ids: Tensor) -> Tensor:  # noqa: ANN401 (the package's own)
    """Text ids (t,) as the base model reads them, (t, d)."""
    config = model.config.lm_config
    embedded: Tensor = model.base_lm.embed_tokens(ids)
    return embedded * config.scale_emb if config.use_mup else embedded


def hear(
    model: Any,  # noqa: ANN401 (the package's own)
    patches: Tensor,
    counts: Sequence[int],
    share: RowShare,
) -> Tensor:
    """Patches (n, p, c) as the language models read them, (n, d); ``counts`` of them a batch.

    The local encoder is never adapted and its input never learned, so nothing of it is kept.
    """
    with torch.no_grad():
        encoded = model.feat_encoder(patches[None].to(model.enc_to_lm_proj.weight.dtype))[0]
    with share(counts):
        heard: Tensor = model.enc_to_lm_proj(encoded)
    return heard


def quantised(layer: Any, states: Tensor) -> Tensor:  # noqa: ANN401 (the package's own)
    """Finite scalar quantisation of states at patches, (n, d) to (n, d).

    A frozen base is in evaluation mode, where the package's own layer rounds and passes no
    gradient on. In training it passes it straight through the rounding, and so does this.
    """
    soft = torch.tanh(layer.in_proj(states))
    hard = (torch.round(soft * layer.scale) / layer.scale).detach()
    # The value is that of `hard` to the bit: what is added is zero.
    quantised: Tensor = layer.out_proj(hard + (soft - soft.detach()))
    return quantised


def projected(
    model: Any,  # noqa: ANN401 (the package's own)
    states: Tensor,
    residual: Tensor,
    counts: Sequence[int],
    share: RowShare,
) -> Tensor:
    """Both language models' states (n, d) as the diffusion decoder reads them, (n, 2 * m)."""
    with share(counts):
        return torch.cat([model.lm_to_dit_proj(states), model.res_to_dit_proj(residual)], dim=-1)


def stop_logits(model: Any, states: Tensor) -> Tensor:  # noqa: ANN401 (the package's own)
    """(n, 2), fp32: go on, or stop after this patch, from ``states`` (n, d) before it."""
    logits: Tensor = model.stop_head(model.stop_actn(model.stop_proj(states)))
    return logits.float()


def diffusion_losses(model: Any, mu: Tensor, batch: Batch) -> Tensor:  # noqa: ANN401
    """The squared error of each patch's flow, its mean over latents and channels, (n,), fp32.

    ``batch`` has what :func:`jobs.families.voxcpm2.layout.collate` gives, of all patches.
    """
    dtype = mu.dtype
    sound, noise, time = batch["patches"], batch["noise"], batch["time"]
    mixed = (1 - time)[:, None, None] * sound + time[:, None, None] * noise
    before = sound.roll(1, dims=0).masked_fill(batch["first"][:, None, None], 0.0)
    flow = model.feat_decoder.estimator(
        mixed.transpose(1, 2).to(dtype),
        mu * batch["kept"][:, None].to(dtype),
        time,
        before.transpose(1, 2).to(dtype),
        torch.zeros_like(time),
    )
    wanted = (noise - sound).transpose(1, 2)
    losses: Tensor = nn.functional.mse_loss(flow.float(), wanted, reduction="none").mean(dim=(1, 2))
    return losses


_PATCHWISE = ("patches", "noise", "time", "first", "kept", "stop")


def loss_sums(model: Any, batches: Sequence[Batch], share: RowShare) -> list[Tensor]:  # noqa: ANN401
    """Of each batch the losses of :data:`PARTS`, summed over its patches, (2,)."""
    mu, states = conditions(model, batches, share)
    counts = [len(batch["patches"]) for batch in batches]
    merged = {name: torch.cat([batch[name] for batch in batches]) for name in _PATCHWISE}
    with share(counts):
        flow = diffusion_losses(model, mu, merged)
    stop = nn.functional.cross_entropy(stop_logits(model, states), merged["stop"], reduction="none")
    pairs = zip(torch.split(flow, counts), torch.split(stop, counts), batches, strict=True)
    return [
        torch.stack([of_flow.sum(), batch["stop_weight"] * of_stop.sum()])
        for of_flow, of_stop, batch in pairs
    ]


def _moved(batches: Sequence[Batch], name: str, starts: Sequence[int]) -> Tensor:
    """Positions of each batch as positions in the row of all."""
    return torch.cat([batch[name] + start for batch, start in zip(batches, starts, strict=True)])
