"""Trained rows of an embedding and of a head, each slot's own, in one pass of several slots.

A slot's rows are values and not differences, as PEFT's ``trainable_token_indices`` keeps them. At a
LoRA scale s a token has ``base + s * (trained - base)``: the base at 0, what was trained at 1.

Notation: t rows of all slots together, n rows of one, k trained tokens, v vocabulary, d features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from jobs.training.packed import Rows

DELTA = "trainable_tokens_delta"
"""PEFT's name for the trained values."""


class TokenRows(nn.Module):
    """Instead of an embedding or of a head, which stays inside, frozen.

    Where a slot has rows of its own, its inputs find these; nobody else's do. A slot's products and
    look-ups are over its own rows of the pass alone, so that they are those of the slot by itself.
    """

    def __init__(self, layer: nn.Module, ids: Tensor, rows: Rows, values: nn.ParameterDict) -> None:
        """``ids`` (k,) rise; ``values`` by slot, (k, d), are shared with a layer that is tied."""
        super().__init__()
        self.base_layer = layer
        self.token_adapter = nn.Module()
        self.token_adapter.register_module(DELTA, values)
        self.rows = rows
        self.register_buffer("_ids", ids, persistent=False)

    def original(self) -> Tensor:
        """The base's own, (k, d), fp32."""
        weight, ids = self.base_layer.weight, self.get_buffer("_ids")
        assert isinstance(weight, Tensor)
        return weight.detach()[ids].float()

    def slots(self) -> nn.ParameterDict:
        """The values (k, d) of each slot that has some."""
        values = self.token_adapter.get_submodule(DELTA)
        assert isinstance(values, nn.ParameterDict)
        return values

    def _of_each_slot(self, rows: int) -> list[tuple[slice, Tensor]]:
        """The rows of each slot that has values, and these at its strength."""
        values = self.slots()
        found = []
        for owner, start, stop in self.rows.split(rows):
            if owner.slot is not None and owner.slot in values:
                own, scale = values[owner.slot], owner.lora_scale
                if scale != 1.0:
                    own = torch.lerp(self.original(), own, scale)
                found.append((slice(start, stop), own))
        return found


class TokenEmbedding(TokenRows):
    """Of ids (...) gives (..., d)."""

    def forward(self, ids: Tensor) -> Tensor:
        """Of (...) to (..., d)."""
        embedded: Tensor = self.base_layer(ids)
        own = self._of_each_slot(ids.numel())
        if not own:
            return embedded
        flat, result = ids.flatten(), embedded.flatten(0, -2).clone()
        trained = self.get_buffer("_ids")
        for rows, values in own:
            places = torch.searchsorted(trained, flat[rows]).clamp(max=len(trained) - 1)
            found = nn.functional.embedding(places, values).to(result.dtype)
            is_trained = trained[places] == flat[rows]
            result[rows] = torch.where(is_trained[:, None], found, result[rows])
        return result.view(embedded.shape)


class TokenHead(TokenRows):
    """Of (..., d) gives logits (..., v)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of (..., d) to (..., v)."""
        logits: Tensor = self.base_layer(x)
        own = self._of_each_slot(x.shape[:-1].numel())
        if not own:
            return logits
        flat, result = x.flatten(0, -2), logits.flatten(0, -2)
        trained = self.get_buffer("_ids")
        for rows, values in own:
            found = (flat[rows].to(values.dtype) @ values.t()).to(result.dtype)
            result[rows].index_copy_(1, trained, found)
        return result.view(logits.shape)


class TokenRowsOfSlots:
    """Puts rows of slots into a Hugging Face model, and takes them out again."""

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        self._model = model
        self._rows = rows

    def add(self, slot: str, ids: Sequence[int]) -> None:
        """A copy of the base's rows ``ids`` for ``slot``, in the embedding and in the head."""
        if not self.layers():
            self._wrap(torch.tensor(sorted(ids)))
        for layer in self.layers().values():
            if slot not in layer.slots():
                layer.slots()[slot] = nn.Parameter(layer.original())

    def remove(self, slot: str) -> None:
        """Take a slot's out, if it has some; without any, the layers are the base's again."""
        layers = self.layers()
        for layer in layers.values():
            if slot in layer.slots():
                del layer.slots()[slot]
        for name, layer in layers.items():
            if not layer.slots():
                self._model.set_submodule(name, layer.base_layer)

    def of(self, slot: str) -> dict[str, list[int]] | None:
        """The ids of a slot's rows by the name of the layer, as PEFT's configuration has them."""
        found: dict[str, list[int]] = {}
        for name, layer in self.layers().items():
            # A tied layer is found by the one that it is tied to.
            tied = any(layer.slots() is self.layers()[other].slots() for other in found)
            if slot in layer.slots() and not tied:
                found[name] = layer.get_buffer("_ids").tolist()
        return found or None

    def layers(self) -> dict[str, TokenRows]:
        """By the name that the layer has in the model; the embedding comes first."""
        named = self._model.named_modules()
        return {name: module for name, module in named if isinstance(module, TokenRows)}

    def _wrap(self, ids: Tensor) -> None:
        embedding = self._model.get_input_embeddings()  # type: ignore[operator]  # Hugging Face's
        head = self._model.get_output_embeddings()  # type: ignore[operator]  # as above
        values = nn.ParameterDict()
        tied = head.weight is embedding.weight
        self._replace(embedding, TokenEmbedding, ids, values)
        self._replace(head, TokenHead, ids, values if tied else nn.ParameterDict())

    def _replace(
        self,
        layer: nn.Module,
        kind: Callable[[nn.Module, Tensor, Rows, nn.ParameterDict], TokenRows],
        ids: Tensor,
        values: nn.ParameterDict,
    ) -> None:
        (name,) = (name for name, module in self._model.named_modules() if module is layer)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        self._model.set_submodule(name, kind(layer, ids.to(weight.device), self._rows, values))
