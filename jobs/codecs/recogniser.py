"""The closed-vocabulary judge of the embedded model: a small CTC recogniser of spoken words.

It knows ten words and was trained on every voice it judges, so it is lenient: use its word error to
compare variants of the embedded model, and for nothing else.

Notation: b batch, s samples, t 10 ms mel frames, u 40 ms output frames, m mel bands, v words + 1.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from jobs.spec.strict import Strict

MEL_BANDS = 40
FFT_SIZE = 512
WINDOW = 400  # samples, 25 ms at 16 kHz
HOP = 160  # samples, 10 ms at 16 kHz
STRIDE = 4  # mel frames per output frame
BLANK = 0
_FLOOR = 1e-6  # of mel power; about the quantisation noise of 16-bit audio


class RecogniserConfig(Strict):
    """`config.json` of a recogniser directory."""

    words: tuple[str, ...]
    sample_rate: int
    channels: int
    hidden: int


class ConvGruCtc(nn.Module):
    """Two strided convolutions, a bidirectional GRU and a word classifier over log-mel frames."""

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MEL_BANDS, config.channels, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(config.channels, config.hidden, 5, stride=2, padding=2)
        self.gru = nn.GRU(config.hidden, config.hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * config.hidden, len(config.words) + 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (b, u, v) and their lengths (b,) of normalised mel frames (b, t, m).

        Padding is zeroed after each layer, so a clip reads the same alone and in a batch.
        """
        hidden = mel.transpose(1, 2)
        for conv in (self.conv1, self.conv2):
            lengths = (lengths + 1) // 2
            hidden = torch.relu(conv(hidden))
            valid = torch.arange(hidden.shape[2]) < lengths[:, None]
            hidden = hidden * valid[:, None].float()
        hidden = self.dropout(hidden.transpose(1, 2))
        packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return torch.log_softmax(self.output(self.dropout(hidden)), dim=-1), lengths


@dataclass(frozen=True, eq=False)
class WordRecogniser:
    """A trained recogniser with its vocabulary; `digest` is the SHA-256 of its two files."""

    config: RecogniserConfig
    model: ConvGruCtc
    digest: str

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `config.json` and `recogniser.safetensors` from a directory."""
        described = (directory / "config.json").read_bytes()
        weights = (directory / "recogniser.safetensors").read_bytes()
        config = RecogniserConfig.model_validate_json(described)
        model = ConvGruCtc(config)
        model.load_state_dict({name: tensor.float() for name, tensor in load(weights).items()})
        return cls(config, model.eval(), hashlib.sha256(described + weights).hexdigest())

    def transcribe(self, audio: NDArray[np.float32], rate: int) -> list[str]:
        """The words recognised in audio (s,), best path, repeats merged.

        Raises:
            ValueError: `rate` is not the recogniser's.
        """
        return self.transcribe_batch([audio], rate)[0]

    def transcribe_batch(self, audios: Sequence[NDArray[np.float32]], rate: int) -> list[list[str]]:
        """The words recognised in each of several audios (s,); see `transcribe`."""
        return [
            # CTC's reading of a best path: repeats are merged, then blanks dropped.
            [self.config.words[i - 1] for i, _ in groupby(scores.argmax(axis=1)) if i != BLANK]
            for scores in self._log_probabilities(audios, rate)
        ]

    def align(self, audio: NDArray[np.float32], rate: int, words: Sequence[str]) -> list[float]:
        """Where each word starts, in seconds: CTC forced alignment of `words` to audio (s,).

        A CTC model marks a word with a spike rather than an extent. So the first word starts at 0
        and every other one half-way between its own spike and the one before.

        Raises:
            ValueError: `rate` is not the recogniser's, a word is outside the vocabulary, or the
                audio is too short to hold the words.
        """
        unknown = sorted(set(words) - set(self.config.words))
        if unknown or not words:
            raise ValueError(
                f"words to align must be some of {' '.join(self.config.words)}, "
                f"got {' '.join(unknown) or 'none'}"
            )
        labels = [self.config.words.index(word) + 1 for word in words]
        spikes = _spikes(self._log_probabilities([audio], rate)[0], labels)
        seconds = (np.array(spikes) + 0.5) * STRIDE * HOP / rate
        return [0.0, *((seconds[1:] + seconds[:-1]) / 2).tolist()]

    def _log_probabilities(
        self, audios: Sequence[NDArray[np.float32]], rate: int
    ) -> list[NDArray[np.float32]]:
        if rate != self.config.sample_rate:
            raise ValueError(
                f"audio must be {self.config.sample_rate} Hz, got {rate} Hz; resample it first"
            )
        if not audios:
            return []
        mels = [log_mel(torch.from_numpy(audio), rate) for audio in audios]
        with torch.inference_mode():
            scores, lengths = self.model(*pad_mels(mels))
        return [row[:length].numpy() for row, length in zip(scores, lengths.tolist(), strict=True)]


def log_mel(audio: Tensor, rate: int) -> Tensor:
    """Log-mel frames (t, m) of audio (s,), each band brought to mean 0 and deviation 1."""
    window = torch.hann_window(WINDOW)
    padded = torch.nn.functional.pad(audio, (0, max(0, FFT_SIZE - len(audio))))
    spectrum = torch.stft(
        padded, FFT_SIZE, HOP, WINDOW, window, pad_mode="constant", return_complex=True
    )
    mel = torch.log(mel_filters(rate) @ spectrum.abs() ** 2 + _FLOOR).T
    return (mel - mel.mean(dim=0)) / (mel.std(dim=0) + 1e-3)


def mel_filters(rate: int) -> Tensor:
    """Triangular filters (m, bins) on the mel scale of O'Shaughnessy, 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, FFT_SIZE // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0, None).astype(np.float32))


def pad_mels(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mel frames of several clips as one zero-padded batch (b, t, m) with lengths (b,)."""
    lengths = torch.tensor([len(mel) for mel in mels])
    return pad_sequence(list(mels), batch_first=True), lengths


def _spikes(scores: NDArray[np.float32], labels: Sequence[int]) -> list[int]:
    """The frame at which each label is most probable on the best CTC path (Viterbi)."""
    states = [BLANK, *(state for label in labels for state in (label, BLANK))]
    if len(scores) < len(labels):
        raise ValueError(f"{len(labels)} words need as many 40 ms frames, got {len(scores)}")
    path = _viterbi(scores[:, states], states)
    frames = [np.flatnonzero(path == 2 * i + 1) for i in range(len(labels))]
    if any(len(found) == 0 for found in frames):
        raise ValueError(
            f"{len(labels)} words cannot be aligned to {len(scores)} frames of 40 ms; "
            "is the text what the clip says?"
        )
    return [
        int(found[scores[found, label].argmax()])
        for found, label in zip(frames, labels, strict=True)
    ]


def _viterbi(emissions: NDArray[np.float32], states: Sequence[int]) -> NDArray[np.int64]:
    """Best state per frame; emissions (u, states) of a CTC topology that starts with a blank."""
    count = len(states)
    skips = np.array([i >= 2 and states[i] != states[i - 2] and i % 2 == 1 for i in range(count)])
    score = np.full(count, -np.inf)
    score[:2] = emissions[0, :2]
    steps = np.zeros(emissions.shape, dtype=np.int64)
    for frame in range(1, len(emissions)):
        one = np.concatenate(([-np.inf], score[:-1]))
        two = np.where(skips, np.concatenate(([-np.inf, -np.inf], score[:-2])), -np.inf)
        options = np.stack((score, one, two))
        steps[frame] = options.argmax(axis=0)
        score = options.max(axis=0) + emissions[frame]
    state = count - 1 - int(score[-2] > score[-1])
    path = np.empty(len(emissions), dtype=np.int64)
    for frame in range(len(emissions) - 1, -1, -1):
        path[frame] = state
        state -= steps[frame, state]
    return path
