"""How large a base is, and what a pass through it takes, from its ``config.json``. No torch here.

All of it is worked out from shapes; nothing is measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.families.targets import block_layers
from jobs.spec.trial import TrainingSpec

_FP32 = 4
_LOSS_BYTES = 8
"""Of a logit beside itself: in fp32, and its gradient."""


@dataclass(frozen=True)
class Stack:
    """Blocks of a Qwen or Llama decoder, all of one shape, and how much goes through them."""

    name: str
    """Before ``.layers``."""
    blocks: int
    width: int
    inner: int
    """Of the MLP."""
    queries: int
    """Of all heads together."""
    keys: int
    """Likewise; there are as many values."""
    per_token: float
    """Positions that a token of text has in it."""
    per_frame: float
    """Positions that a frame of sound has in it."""
    learns: bool = True
    """Whether gradients go back through it."""
    is_diffusion: bool = False
    """Whether ``training.dit_rank`` is the rank of its layers."""

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block, by the ends of their names."""
        return {
            "q_proj": (self.width, self.queries),
            "k_proj": (self.width, self.keys),
            "v_proj": (self.width, self.keys),
            "o_proj": (self.queries, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    @property
    def weights(self) -> int:
        """Of the linear layers of all blocks."""
        return self.blocks * sum(inputs * outputs for inputs, outputs in self.layers.values())

    @property
    def kept(self) -> int:
        """Numbers that a position leaves in a block for its gradient.

        What Korthikanti et al. (2022, arXiv 2205.05198, section 4.1) count for a block whose
        attention is fused, with the widths of this one and a gated MLP: input and output of both
        norms, queries, keys, values, what attention gives, and four of the MLP's inner width.
        """
        return 4 * self.width + 2 * self.queries + 2 * self.keys + 4 * self.inner

    def positions(self, tokens: float, frames: float) -> float:
        """Of a clip of so many tokens and frames."""
        return self.per_token * tokens + self.per_frame * frames


def decoder_stack(
    name: str, config: Mapping[str, Any], *, per_token: float, per_frame: float
) -> Stack:
    """Of a decoder that Hugging Face's ``config`` describes.

    Raises:
        KeyError: a number is missing.
    """
    width, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or width // heads
    return Stack(
        name=name,
        blocks=config["num_hidden_layers"],
        width=width,
        inner=config["intermediate_size"],
        queries=heads * size,
        keys=config["num_key_value_heads"] * size,
        per_token=per_token,
        per_frame=per_frame,
    )


@dataclass(frozen=True)
class AdapterSize:
    """Weights that are trained and saved, fp32."""

    lora: int
    rows: int
    """Of tokens of speech, in embedding and head."""

    @property
    def saved_bytes(self) -> int:
        """Of a checkpoint's weights."""
        return _FP32 * (self.lora + self.rows)

    @property
    def row_bytes(self) -> int:
        """Of these, the rows'."""
        return _FP32 * self.rows

    @property
    def training_bytes(self) -> int:
        """In training: weights, gradients, and AdamW's two moments, all fp32."""
        return 4 * self.saved_bytes


@dataclass(frozen=True)
class BaseSize:
    """What a base has, and how much of it a clip goes through."""

    stacks: tuple[Stack, ...]
    others: Mapping[str, tuple[int, int]]
    """Inputs and outputs of other linear layers that can be adapted, by their whole names."""
    weights: int
    """Of the network, in the engine's precision."""
    codec: int
    """Weights of its codec, in fp32; 0 where they are not known."""
    frame_rate: float
    """Frames a second."""
    logits: int = 0
    """Of a frame, where they are too many to be left out."""
    speech_rows: int = 0
    """Weights of the rows that ``training.speech_rows`` trains."""

    @cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of every linear layer that can be adapted, by its whole name."""
        found = {
            name: stack.layers[name.rpartition(".")[2]]
            for stack in self.stacks
            for name in block_layers(stack.name, stack.blocks)
        }
        return found | dict(self.others)

    def adapter(self, names: Sequence[str], training: TrainingSpec) -> AdapterSize:
        """Of an adapter of the layers ``names``."""
        diffusion = tuple(f"{stack.name}." for stack in self.stacks if stack.is_diffusion)
        own = training.dit_rank or training.rank
        lora = sum(
            (own if name.startswith(diffusion) else training.rank) * sum(self.layers[name])
            for name in names
        )
        return AdapterSize(lora, self.speech_rows if training.speech_rows == "trained" else 0)

    def activation_bytes(self, tokens: float, frames: float, itemsize: int, again: bool) -> float:
        """That a clip in training leaves for its gradient.

        ``again``: blocks are computed again for it, so that all but one keep their input alone.
        """
        found = 0.0
        for stack in self.stacks:
            if not stack.learns:
                continue
            blocks = stack.blocks * stack.width + stack.kept if again else stack.blocks * stack.kept
            found += itemsize * stack.positions(tokens, frames) * blocks
        return found + frames * self.logits * (itemsize + _LOSS_BYTES)

    def operations(self, tokens: float, frames: float, passes: Sequence[float]) -> float:
        """Floating-point operations of a clip: two for each weight that a position goes through.

        Attention's own products and an adapter's are left out: for clips of some hundred positions
        and ranks up to 128 they are less than a tenth.

        Args:
            tokens: of its text.
            frames: of its sound.
            passes: how often stacks that learn, and how often the others, are gone through. A
                gradient for the inputs of frozen weights takes as much as a forward pass.
        """
        of_learning, of_others = passes
        return sum(
            2
            * stack.weights
            * stack.positions(tokens, frames)
            * (of_learning if stack.learns else of_others)
            for stack in self.stacks
        )
