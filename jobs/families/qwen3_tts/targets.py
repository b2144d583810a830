"""What ``training.targets`` means: which linear layers of the two transformers get an adapter.

The talker and the code predictor have layers of the same names, so a bare name such as ``q_proj``
is one in both. A group names one of them: ``talker.attention``, ``talker.mlp``,
``predictor.attention``, ``predictor.mlp``. Embeddings, heads, projections and the speaker encoder
are never adapted.
"""

import re
from collections.abc import Sequence

from jobs.problems import nearest

_STACKS = {"talker": r"talker\.model", "predictor": r"talker\.code_predictor\.model"}
_PARTS = {
    "attention": (r"self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    "mlp": (r"mlp", ("gate_proj", "up_proj", "down_proj")),
}


def _patterns() -> dict[str, str]:
    """A regular expression for each target."""
    found: dict[str, str] = {}
    both = "|".join(_STACKS.values())
    for part, (module, names) in _PARTS.items():
        for stack, prefix in _STACKS.items():
            found[f"{stack}.{part}"] = (
                rf"(?:{prefix})\.layers\.\d+\.{module}\.(?:{'|'.join(names)})"
            )
        for name in names:
            found[name] = rf"(?:{both})\.layers\.\d+\.{module}\.{name}"
    return found


TARGETS = _patterns()
"""By name, what the whole name of a layer matches."""


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
