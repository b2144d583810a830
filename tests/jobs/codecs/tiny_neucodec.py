"""A NeuCodec with random weights and the real layout on disk, but small."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig

from jobs.codecs.neucodec import build_network

SIZES = {
    "codec": "neucodec",
    "decoder": {"hidden_dim": 64, "depth": 1, "heads": 2, "pos_meb_dim": 32},
    "encoder": {"ngf": 2, "hidden_dim": 16},
}


def write_neucodec(directory: Path, seed: int = 0) -> Path:
    """Its weights in one file, as the published ones are."""
    semantic = directory / "w2v-bert-2.0"
    semantic.mkdir(parents=True)
    Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=24,
        num_attention_heads=2,
        intermediate_size=16,
        conv_depthwise_kernel_size=3,
        left_max_position_embeddings=8,
        right_max_position_embeddings=4,
    ).save_pretrained(semantic)
    SeamlessM4TFeatureExtractor().save_pretrained(semantic)
    (directory / "config.json").write_text(json.dumps(SIZES))
    torch.manual_seed(seed)
    network = build_network(directory)
    with torch.no_grad():  # so that the codes follow from the sound, not from the biases alone
        network.fc_prior.weight *= 20
    weights = {name: of.contiguous().clone() for name, of in network.state_dict().items()}
    save_file(weights, directory / "model.safetensors")
    return directory
