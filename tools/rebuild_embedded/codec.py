"""Fit the codec: k-means over weighted WORLD features of every voice."""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.cluster import MiniBatchKMeans

from jobs.codecs.world import CEPSTRA, FEATURES, analyse, stack
from tools.rebuild_embedded.corpus import TARGET_VOICE, Clip, read_audio

CODEBOOK_SIZE = 1024
TARGET_REPEATS = 3  # the target has few clips; without this its frames get too few centroids
# Distances add up over features of different units. Cepstra share one scale, so that they measure
# log-spectral distance; these weights set the rest against them, each in units of its own spread.
# Chosen by the word error of coded recordings of the target (docs/lab-notes.md).
WEIGHTS = {"loudness": 1.0, "aperiodicity": 0.15, "log_f0": 0.3, "voicing": 0.3}
FITTED_ROLES = frozenset({"training", "heard"})


def analyse_corpus(corpus: Path, clips: Sequence[Clip], path: Path, workers: int) -> None:
    """Write the WORLD features (t, d) of every clip, keyed by clip path, as float16."""
    with ProcessPoolExecutor(workers) as pool:
        features = list(pool.map(_analyse_file, (corpus / c.path for c in clips), chunksize=64))
    save_file({clip.path: f for clip, f in zip(clips, features, strict=True)}, path)


def read_features(path: Path) -> dict[str, NDArray[np.float32]]:
    """WORLD features (t, d) by clip path."""
    return {key: value.astype(np.float32) for key, value in load_file(path).items()}


def fit_codec(
    clips: Sequence[Clip], features: dict[str, NDArray[np.float32]], directory: Path, seed: int
) -> None:
    """Fit one codebook on the training clips and on the target clips set aside for it."""
    fitted = [features[clip.path] for clip in clips if clip.role in FITTED_ROLES]
    target = [features[c.path] for c in clips if c.role == "heard" and c.voice == TARGET_VOICE]
    frames = np.concatenate(fitted)
    mean, weight = frames.mean(axis=0), _weight(frames)
    repeated = fitted + target * (TARGET_REPEATS - 1)
    vectors = np.concatenate([stack((f - mean) * weight) for f in repeated])
    kmeans = MiniBatchKMeans(
        CODEBOOK_SIZE, batch_size=8192, max_iter=30, n_init=1, random_state=seed
    ).fit(vectors)
    _write(directory, kmeans.cluster_centers_, mean, weight)


def _analyse_file(path: Path) -> NDArray[np.float16]:
    return analyse(read_audio(path)).astype(np.float16)


def _weight(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    spread = frames.std(axis=0)
    weight = np.empty(FEATURES, dtype=np.float32)
    weight[:CEPSTRA] = 1.0 / np.sqrt((spread[1:CEPSTRA] ** 2).sum())
    weight[0] = WEIGHTS["loudness"] / spread[0]
    others = np.array([WEIGHTS["aperiodicity"], WEIGHTS["log_f0"], WEIGHTS["voicing"]])
    weight[CEPSTRA:] = others / spread[CEPSTRA:]
    return weight


def _write(
    directory: Path,
    codebook: NDArray[np.float32],
    mean: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[np.generic]] = {
        "codebook": codebook.astype(np.float16),
        "mean": mean.astype(np.float32),
        "weight": weight.astype(np.float32),
    }
    save_file(tensors, directory / "codec.safetensors")
    (directory / "config.json").write_text(json.dumps({"codec": "world"}, indent=2) + "\n")
