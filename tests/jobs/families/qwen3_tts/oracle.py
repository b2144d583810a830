"""What the official package itself would give a clip: its own prompt, its own cached branches.

Nothing of the family is used. The prompt's embeddings are those that the package's ``generate``
hands to the talker; then every step goes through ``talker.forward`` as ``generate`` calls it, one
token at a time with a cache, the code predictor too, with the clip's codes in place of picked ones.
"""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from jobs.clips import PreparedClip


class Captured(Exception):
    """Stops the package's generate once it has made the prompt."""


def prefill(
    package: Any, text: str, language: str | None, *, vector: Tensor | None, speaker: str = ""
) -> dict[str, Tensor]:
    """What the package's generate gives the talker: embeddings, mask, text channel of frames."""
    found: dict[str, Tensor] = {}

    def capture(**given: Any) -> None:
        found.update(given)
        raise Captured

    prompt = None
    if vector is not None:
        prompt = {
            "ref_code": [None],
            "ref_spk_embedding": [vector],
            "x_vector_only_mode": [True],
            "icl_mode": [False],
        }
    ids = package._tokenize_texts([package._build_assistant_text(text)])
    with patch.object(package.model.talker, "generate", capture):
        try:
            package.model.generate(
                input_ids=ids,
                voice_clone_prompt=prompt,
                languages=[language or "auto"],
                speakers=[speaker] if speaker else None,
                non_streaming_mode=True,
            )
        except Captured:
            return found
    raise AssertionError("the package did not call the talker")


def losses(
    package: Any, clip: PreparedClip, vector: Tensor, language: str | None = None
) -> tuple[float, float]:
    """Summed negative log-likelihood of a clip: codebook 0 with the end, and the other 15."""
    with torch.no_grad():
        return _losses(package, clip, vector, language)


def _losses(
    package: Any, clip: PreparedClip, vector: Tensor, language: str | None
) -> tuple[float, float]:
    talker = package.model.talker
    given = prefill(package, clip.text, language, vector=vector)
    length = given["inputs_embeds"].shape[1]
    cache = DynamicCache()
    channel = {key: given[key] for key in ("trailing_text_hidden", "tts_pad_embed")}
    output = talker(
        inputs_embeds=given["inputs_embeds"],
        attention_mask=given["attention_mask"],
        cache_position=torch.arange(length),
        past_key_values=cache,
        use_cache=True,
        **channel,
    )
    first = others = 0.0
    for t, frame in enumerate(torch.from_numpy(clip.codes)):
        first += _nll(output.logits[0, -1], frame[0])
        spoken: list[float] = []
        teacher = _teacher(talker.code_predictor, frame, spoken)
        with patch.object(talker.code_predictor, "generate", teacher):
            output = talker(
                input_ids=frame[None, :1],
                attention_mask=torch.ones(1, length + t + 1, dtype=torch.long),
                cache_position=torch.tensor([length + t]),
                past_key_values=cache,
                past_hidden=output.past_hidden,
                generation_step=output.generation_step,
                use_cache=True,
                **channel,
            )
        others += sum(spoken)
    end = torch.tensor(talker.config.codec_eos_token_id)
    return first + _nll(output.logits[0, -1], end), others


def _teacher(predictor: Any, frame: Tensor, spoken: list[float]) -> Any:
    """Stands for the predictor's generate: says the frame, and what each code of it costs."""

    def generate(inputs_embeds: Tensor, **asked: Any) -> SimpleNamespace:
        cache = DynamicCache()
        output = predictor(inputs_embeds=inputs_embeds, past_key_values=cache, use_cache=True)
        for book in range(1, len(frame)):
            spoken.append(_nll(output.logits[0, -1], frame[book]))
            if book + 1 < len(frame):
                output = predictor(
                    input_ids=frame[None, book : book + 1],
                    generation_steps=output.generation_steps,
                    past_key_values=cache,
                    use_cache=True,
                )
        return SimpleNamespace(sequences=frame[None, 1:])

    return generate


def _nll(logits: Tensor, code: Tensor) -> float:
    return float(nn.functional.cross_entropy(logits[None].double(), code[None]))
