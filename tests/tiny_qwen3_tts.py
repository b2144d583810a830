"""A tiny random Qwen3-TTS base as it lies on a disk, with no two widths equal.

Its widths are multiples of 64, as those of the released bases are: torch's silu rounds the same
value otherwise at the end of a tensor whose rows do not fill its vectors.

An untrained speech tokenizer gives zeros: its codebooks are filled and its decoder's convolutions
drawn wide enough that codes differ and sound is heard. What it says is noise.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from transformers import EncodecFeatureExtractor, Qwen2TokenizerFast

from jobs.audio.files import write_flac
from jobs.clips import PreparedClip
from jobs.vendor import qwen_tts

HIDDEN = 64
"""Width of the talker."""
LOUD = 64
"""So much larger are the vectors of speakers, so that they are heard beside a random text."""
RATE = 24_000
CODEBOOKS = 16
CONTROL = {
    "codec_pad_id": 2148,
    "codec_bos_id": 2149,
    "codec_eos_token_id": 2150,
    "codec_think_id": 2154,
    "codec_nothink_id": 2155,
    "codec_think_bos_id": 2156,
    "codec_think_eos_id": 2157,
}
LANGUAGES = {"english": 2050, "chinese": 2055, "spanish": 2054}
PRESETS = {"vivian": 3065}
_SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
)
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CORPUS = ["assistant"] * 20 + [*_WORDS] * 5


def talker_config(**changes: Any) -> dict[str, Any]:
    """Of the shape that a released config.json has."""
    predictor = {
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 32,
        "vocab_size": 2048,
        "num_code_groups": CODEBOOKS,
        "initializer_range": 0.2,
    }
    return {
        "code_predictor_config": predictor,
        "hidden_size": HIDDEN,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 32,
        "vocab_size": 3072,
        "num_code_groups": CODEBOOKS,
        "text_hidden_size": 192,
        "text_vocab_size": 512,
        "initializer_range": 0.2,
        "rope_theta": 1_000_000,
        "rope_scaling": {"interleaved": True, "mrope_section": [8, 4, 4], "rope_type": "default"},
        "pad_token_id": None,
        "spk_id": {},
        "spk_is_dialect": {},
        "codec_language_id": LANGUAGES,
        **CONTROL,
        **changes,
    }


def write_tiny_qwen3_tts(directory: Path, seed: int = 0, **talker: Any) -> Path:
    """Write a base: model, tokenizer and speech tokenizer; returns ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(directory)
    speaker = {
        "enc_dim": talker.get("hidden_size", HIDDEN),
        "enc_channels": [16, 16, 16, 16, 48],
        "enc_attention_channels": 8,
        "enc_res2net_scale": 4,
        "enc_se_channels": 8,
    }
    config = {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tts_model_type": "base",
        "tts_model_size": "0b6",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "talker_config": talker_config(**talker),
        "speaker_encoder_config": speaker,
        "im_start_token_id": ids["<|im_start|>"],
        "im_end_token_id": ids["<|im_end|>"],
        "tts_pad_token_id": ids["<tts_pad>"],
        "tts_bos_token_id": ids["<tts_text_bos>"],
        "tts_eos_token_id": ids["<tts_text_eod>"],
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text("{}")
    torch.manual_seed(seed)
    models = qwen_tts().core.models
    model = models.Qwen3TTSForConditionalGeneration(models.Qwen3TTSConfig(**config))
    model.speaker_encoder.fc.weight.data.mul_(LOUD)
    save_file(_own(model), directory / "model.safetensors", metadata={"format": "pt"})
    _write_speech_tokenizer(directory / "speech_tokenizer")
    return directory


def write_recording(path: Path, seed: int = 0, seconds: float = 1.5) -> Path:
    """A recording of somebody: coloured noise, another one for each seed."""
    write_flac(path, recording(seed, seconds), RATE)
    return path


def recording(seed: int = 0, seconds: float = 1.5) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = draw.uniform(90, 250)
    voiced = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    noise = draw.normal(size=len(time))
    return (0.1 * voiced + 0.02 * noise).astype(np.float32)


def random_clips(
    reference: Path, frames: tuple[int, ...] = (5, 9, 6), language: str | None = None
) -> list[PreparedClip]:
    """Clips of random codes, of unequal lengths in texts and frames."""
    draw = np.random.default_rng(7)
    texts = ("seven", "four five nine", "two two")
    return [
        PreparedClip(
            id=str(i),
            text=texts[i % len(texts)],
            split="train",
            codes=draw.integers(0, 2048, size=(count, CODEBOOKS)),
            word_starts=None,
            speaker="Ann",
            language=language,
            reference=reference,
        )
        for i, count in enumerate(frames)
    ]


def _write_tokenizer(directory: Path) -> dict[str, int]:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(_CORPUS, vocab_size=300, min_frequency=2, show_progress=False)
    trained.save_model(str(directory))
    files = [str(directory / name) for name in ("vocab.json", "merges.txt")]
    tokenizer = Qwen2TokenizerFast(*files, additional_special_tokens=list(_SPECIAL))
    tokenizer.save_pretrained(directory)
    return {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL}


def _write_speech_tokenizer(directory: Path) -> None:
    directory.mkdir()
    encoder = {
        "hidden_size": 16,
        "num_filters": 4,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "codebook_size": 2048,
        "num_quantizers": CODEBOOKS,
        "num_semantic_quantizers": 1,
        "upsample_groups": 16,
        "sampling_rate": RATE,
    }
    decoder = {
        "codebook_size": 2048,
        "codebook_dim": 8,
        "hidden_size": 16,
        "latent_dim": 16,
        "decoder_dim": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_quantizers": CODEBOOKS,
    }
    config = {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_config": encoder,
        "decoder_config": decoder,
    }
    (directory / "config.json").write_text(json.dumps(config))
    EncodecFeatureExtractor(feature_size=1, sampling_rate=RATE).save_pretrained(directory)
    package = qwen_tts().core
    torch.manual_seed(1)
    model = package.Qwen3TTSTokenizerV2Model(package.Qwen3TTSTokenizerV2Config(**config))
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith(("embed_sum", "embedding_sum")):
            tensor.data.normal_()
    for module in model.decoder.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(module.weight)
    save_file(_own(model), directory / "model.safetensors", metadata={"format": "pt"})


def _own(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}


def make_familiar(source: Path, recordings: list[tuple[NDArray[np.float32], str]]) -> None:
    """Train the talker of a base on disk until it knows these recordings (at 24 kHz) and texts.

    A base that knows nothing is refused before a sweep begins. In place; tables stay as they are.
    """
    from jobs.families.base import LossTerms
    from jobs.families.qwen3_tts.base import load

    base = load(source, source, None, "fp32")
    reference = write_recording(source / "somebody.flac")
    codes = [base.encode(audio, text)[0] for audio, text in recordings]
    clips = [
        PreparedClip(str(i), text, "train", codes[i], None, reference=reference)
        for i, (_, text) in enumerate(recordings)
    ]
    reference_clips = base.examples(clips)
    read = base.collate(reference_clips, LossTerms(acoustic_weight=0))
    talker = base.model.talker
    trained = [*talker.model.layers.parameters(), *talker.codec_head.parameters()]
    optimiser = torch.optim.AdamW(
        [parameter.requires_grad_(True) for parameter in trained], lr=4e-3, fused=True
    )
    for _ in range(FAMILIAR_STEPS):
        optimiser.zero_grad()
        (loss,) = base.loss_sums(base.model, [read])
        (loss / base.targets(reference_clips)).backward()
        optimiser.step()
    save_file(_own(base.model), source / "model.safetensors", metadata={"format": "pt"})


FAMILIAR_STEPS = 50
