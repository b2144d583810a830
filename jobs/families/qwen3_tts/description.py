"""What is known of a base without loading it: its layers for adapters, its texts, its rate."""

import re
from collections.abc import Sequence
from pathlib import Path

from jobs.families.description import TokenCounter, is_path, tagged
from jobs.problems import nearest
from jobs.spec.trial import HostSpec

_STACKS = {"talker": r"talker\.model", "predictor": r"talker\.code_predictor\.model"}
_PARTS = {
    "attention": (r"self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    "mlp": (r"mlp", ("gate_proj", "up_proj", "down_proj")),
}
_BOTH = "|".join(_STACKS.values())
TARGETS = {
    target: rf"(?:{stacks})\.layers\.\d+\.{module}\.(?:{'|'.join(meant)})"
    for part, (module, names) in _PARTS.items()
    for target, stacks, meant in (
        *((f"{stack}.{part}", prefix, names) for stack, prefix in _STACKS.items()),
        *((name, _BOTH, (name,)) for name in names),
    )
}
"""What ``training.targets`` may name, with what the whole name of a layer matches.

The talker and the code predictor have layers of the same names, so a bare name such as ``q_proj``
is one in both. A group names one of them: ``talker.attention``, ``talker.mlp``,
``predictor.attention``, ``predictor.mlp``. Embeddings, heads, projections and the speaker encoder
are never adapted.
"""


def layers(targets: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of ``names`` that ``targets`` mean.

    Raises:
        ValueError: a target is not known.
    """
    for target in targets:
        if target not in TARGETS:
            advice = nearest(target, TARGETS)
            raise ValueError(f"targets must be layers of qwen3_tts, got {target!r}. {advice}")
    wanted = [re.compile(TARGETS[target]) for target in targets]
    return [name for name in names if any(pattern.fullmatch(name) for pattern in wanted)]


SAMPLE_RATE = 24_000
"""Hz of the speech tokenizer of every 12 Hz base."""


def open_text(spec: HostSpec) -> TokenCounter | None:
    """How the base directory that ``spec`` names reads texts; None for one that is elsewhere.

    Raises:
        ValueError, OSError: its tokenizer is missing, or is none.
    """
    if not is_path(spec.source):
        return None
    from transformers import AutoTokenizer  # seconds to import

    if not Path(spec.source).is_dir():
        raise FileNotFoundError(f"base.source must be a directory, and there is no {spec.source}")
    # As the package loads it.
    tokenizer = AutoTokenizer.from_pretrained(spec.source, fix_mistral_regex=True)

    def count(text: str, language: str | None) -> int:
        if not text.strip():
            raise ValueError(f"text must have words, got {text!r}")
        read = text if language is None else tagged(text, language)
        return len(tokenizer(read)["input_ids"])

    return count


def sample_rate(spec: HostSpec) -> int:
    """Hz of all audio that a base of the family takes in."""
    return SAMPLE_RATE
