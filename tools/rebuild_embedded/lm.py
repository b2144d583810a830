"""Train the base: a small Qwen2 that reads digit words and speaks codes.

While it trains, the embedding of a code is an MLP of the code's centroid, so that codes which sound
alike are embedded alike and codes that no base voice uses still land in a sensible place: that is
what makes a new voice reachable for LoRA. At the end the embeddings are written into Qwen2's
ordinary tied table. Free embeddings at the same cost: see docs/lab-notes.md.

Notation: b batch, n tokens, h hidden, c codes.
"""

import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from jobs.codecs.recogniser import WordRecogniser
from jobs.codecs.world import WorldCodec
from jobs.families.layout import IGNORED_LABEL, Example, TokenStream
from tools.rebuild_embedded.corpus import Clip, read_audio
from tools.rebuild_embedded.tokens import MAX_TOKENS

BATCH = 32
LEARNING_RATE = 2e-3
LAST_LEARNING_RATE = 0.02  # of the first, at the end of the cosine
WARM_UP = 60  # steps
POOL = 24  # batches whose clips are sorted by length together, to pad less
EPOCHS = 8.0
DROPOUT = 0.1
EMBEDDING_STD = 0.02  # Qwen2's initializer_range

_log = logging.getLogger(__name__)


class CentroidQwen2(nn.Module):
    """Qwen2 whose tied table is text rows (free) over code rows (an MLP of the centroids)."""

    def __init__(self, config: Qwen2Config, centroids: Tensor) -> None:
        super().__init__()
        self.model = Qwen2ForCausalLM(config)
        text_rows = config.vocab_size - len(centroids)
        self.text = nn.Parameter(torch.randn(text_rows, config.hidden_size) * EMBEDDING_STD)
        self.centroids = (centroids - centroids.mean(0)) / centroids.std(0)
        last = nn.Linear(256, config.hidden_size)
        nn.init.normal_(last.weight, std=EMBEDDING_STD / 8)
        self.code = nn.Sequential(nn.Linear(centroids.shape[1], 256), nn.GELU(), last)
        self.dropout = nn.Dropout(DROPOUT)

    def table(self) -> Tensor:
        """Embeddings of text and codes, (vocabulary, h)."""
        return torch.cat((self.text, self.code(self.centroids)))

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of the next token over labels (b, n) that are not ignored."""
        table = self.table()
        embedded = self.dropout(nn.functional.embedding(ids, table))
        hidden = self.model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        targets = labels[:, 1:]
        spoken = targets != IGNORED_LABEL
        logits = self.dropout(hidden[:, :-1][spoken]) @ table.T
        return nn.functional.cross_entropy(logits.float(), targets[spoken])

    def written(self) -> Qwen2ForCausalLM:
        """The plain Qwen2, with the embeddings in its table."""
        self.model.get_input_embeddings().load_state_dict({"weight": self.table().detach()})
        self.model.eval()
        return self.model


def make_examples(
    clips: Sequence[Clip],
    corpus: Path,
    features: Mapping[str, NDArray[np.float32]],
    codec: WorldCodec,
    recogniser: WordRecogniser,
    stream: TokenStream,
) -> list[Example]:
    """Clips as token streams; clips whose words cannot be aligned are counted, logged, left out."""
    examples, failures = [], []
    for clip in clips:
        words, audio = clip.text.split(), read_audio(corpus / clip.path)
        codes = codec.quantise(features[clip.path]).tolist()
        try:
            seconds = recogniser.align(audio, codec.sample_rate, words)
        except ValueError as error:
            failures.append(f"{clip.path}: {error}")
            continue
        starts = [min(round(second * codec.frame_rate), len(codes)) for second in seconds]
        examples.append(stream.example(clip.text, codes, starts, clip.voice))
    _log.info("%d clips to train on, %d not aligned: %s", len(examples), len(failures), failures)
    return examples


def train_base(
    examples: Sequence[Example],
    codec: WorldCodec,
    stream: TokenStream,
    directory: Path,
    seed: int,
    epochs: float,
) -> None:
    """Train from scratch and write an ordinary Qwen2 into `directory` (bfloat16).

    `directory` already holds the tokenizer and the layout that `stream` was made of.
    """
    torch.manual_seed(seed)
    vocabulary = len(AutoTokenizer.from_pretrained(directory))
    base = CentroidQwen2(_config(vocabulary, stream), torch.from_numpy(codec.codebook))
    steps = round(epochs * len(examples) / BATCH)
    optimiser = torch.optim.AdamW(base.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    base.train()
    batches = _batches(examples, steps, random.Random(seed))
    for step, (ids, labels) in enumerate(batches):
        loss = base(ids, labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            _log.info("step %d of %d: loss %.3f", step, steps, loss.item())
    _write(base.written(), stream, directory)


def _config(vocabulary: int, stream: TokenStream) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=576,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=stream.end_id,
        pad_token_id=stream.pad_id,
    )


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    cosine = 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))
    return LAST_LEARNING_RATE + (1 - LAST_LEARNING_RATE) * cosine


def _batches(
    examples: Sequence[Example], steps: int, shuffler: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """`steps` padded batches: shuffled clips, sorted by length within pools of `POOL` batches."""
    made = 0
    while made < steps:
        pool = shuffler.sample(examples, min(POOL * BATCH, len(examples)))
        pool.sort(key=lambda example: len(example.input_ids))
        batches = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
        shuffler.shuffle(batches)
        for batch in batches[: steps - made]:
            yield _pad(batch)
        made += len(batches)


def _pad(batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    # Padding is on the right and masked in the labels, and attention is causal: no mask is needed.
    ids = [torch.tensor(example.input_ids) for example in batch]
    labels = [torch.tensor(example.labels) for example in batch]
    return (
        pad_sequence(ids, batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL),
    )


def _write(model: Qwen2ForCausalLM, stream: TokenStream, directory: Path) -> None:
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=stream.end_id, pad_token_id=stream.pad_id
    )
    model.bfloat16().save_pretrained(directory)
