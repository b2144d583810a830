"""Models with random weights and a real layout on disk: what a download would give, but small."""

import json
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMForXVector,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

LANGUAGES = ("en", "km", "zh")
_TASKS = ("transcribe", "translate", "startoflm", "startofprev", "nocaptions", "notimestamps")
_WINDOW_SECONDS = 30
_WRITTEN = {*"abcdefghijklmnopqrstuvwxyz", "Ġ", "<|endoftext|>", "<|startoftranscript|>"}
"""Tokens; the letter with the dot stands for a space."""
_TIMESTAMPS = 50 * _WINDOW_SECONDS + 1


def write_whisper(directory: Path, seed: int = 0, multilingual: bool = True) -> Path:
    """A Whisper of two layers that writes bytes, with its processor."""
    directory.mkdir(parents=True)
    special = ("endoftext", "startoftranscript", *LANGUAGES, *_TASKS)
    letters = [*bytes_to_unicode().values()]
    ids = {token: at for at, token in enumerate([*letters, *(f"<|{name}|>" for name in special)])}
    (directory / "vocab.json").write_text(json.dumps({token: ids[token] for token in letters}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    (directory / "normalizer.json").write_text('{"colour": "color"}')
    tokenizer = WhisperTokenizer(
        *(str(directory / name) for name in ("vocab.json", "merges.txt", "normalizer.json"))
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in special]})
    assert tokenizer.convert_tokens_to_ids("<|notimestamps|>") == len(ids) - 1
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(directory)

    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(ids) + _TIMESTAMPS,
            num_mel_bins=8,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_target_positions=32,
            init_std=1.0,  # louder than usual, so that what is written depends on what is heard
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            decoder_start_token_id=start,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    with torch.no_grad():  # timestamps are rare, as in a model that has learned when to write them
        model.model.decoder.embed_tokens.weight[len(ids) :] *= 0.01
    languages = {"lang_to_id": {f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES}}
    tasks = {"task_to_id": {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}}
    model.generation_config = GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=50,
        max_length=24,
        is_multilingual=multilingual,
        # A model that has learned writes texts; this one at least writes letters and spaces.
        suppress_tokens=[at for token, at in ids.items() if token not in _WRITTEN],
        **(languages | tasks if multilingual else {}),
    )
    model.save_pretrained(directory, safe_serialization=True)
    return directory


def write_wavlm(directory: Path, seed: int = 0, safetensors: bool = True) -> Path:
    """A WavLM with an x-vector head, and its feature extractor."""
    torch.manual_seed(seed)
    model = WavLMForXVector(
        WavLMConfig(
            vocab_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(16, 16, 16),
            conv_kernel=(10, 8, 4),
            conv_stride=(5, 8, 8),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            tdnn_dim=(16, 16, 32),
            tdnn_kernel=(5, 3, 1),
            tdnn_dilation=(1, 2, 1),
            xvector_output_dim=16,
            num_labels=4,
        )
    )
    model.save_pretrained(directory, safe_serialization=safetensors)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(
        directory
    )
    return directory
