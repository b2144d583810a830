"""Train the word recogniser on original recordings of every voice, with noise added."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.codecs.recogniser import ConvGruCtc, RecogniserConfig, log_mel, pad_mels
from jobs.families.layout import DIGIT_WORDS
from tools.rebuild_embedded.corpus import SAMPLE_RATE, Clip, read_audio

CONFIG = RecogniserConfig(words=DIGIT_WORDS, sample_rate=SAMPLE_RATE, channels=64, hidden=96)
BATCH = 32
LEARNING_RATE = 2e-3
SIGNAL_TO_NOISE_DB = (5.0, 40.0)
TRAINED_ROLES = frozenset({"training", "heard"})

Example = tuple[Tensor, list[int]]


def train_recogniser(
    corpus: Path, clips: Sequence[Clip], directory: Path, seed: int, epochs: int = 9
) -> None:
    """Train for `epochs` passes and write `recogniser.safetensors` (float16) and its config."""
    torch.manual_seed(seed)
    examples = [_read(corpus, clip) for clip in clips if clip.role in TRAINED_ROLES]
    model = ConvGruCtc(CONFIG)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = epochs * -(-len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    for batch in _batches(examples, epochs, random.Random(seed)):
        optimiser.zero_grad()
        torch.autograd.backward(_loss(model, batch))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    _write(directory, model)


def _read(corpus: Path, clip: Clip) -> Example:
    labels = [DIGIT_WORDS.index(word) + 1 for word in clip.text.split()]
    return torch.from_numpy(read_audio(corpus / clip.path)), labels


def _batches(
    examples: Sequence[Example], epochs: int, shuffler: random.Random
) -> Iterator[list[Example]]:
    """Batches of clips of like length, in a new order each epoch."""
    by_length = sorted(examples, key=lambda example: len(example[0]))
    batches = [by_length[i : i + BATCH] for i in range(0, len(by_length), BATCH)]
    for _ in range(epochs):
        shuffler.shuffle(batches)
        yield from batches


def _loss(model: ConvGruCtc, batch: Sequence[Example]) -> Tensor:
    mels = [log_mel(_noisy(audio), SAMPLE_RATE) for audio, _ in batch]
    scores, lengths = model(*pad_mels(mels))
    labels = torch.tensor([label for _, labels in batch for label in labels])
    counts = torch.tensor([len(labels) for _, labels in batch])
    return nn.functional.ctc_loss(scores.transpose(0, 1), labels, lengths, counts)


def _noisy(audio: Tensor) -> Tensor:
    low, high = SIGNAL_TO_NOISE_DB
    ratio = low + (high - low) * torch.rand(())
    level = audio.square().mean().sqrt() * 10 ** (-ratio / 20)
    return audio + level * torch.randn_like(audio)


def _write(directory: Path, model: ConvGruCtc) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "recogniser.safetensors")
    (directory / "config.json").write_text(CONFIG.model_dump_json(indent=2) + "\n")
