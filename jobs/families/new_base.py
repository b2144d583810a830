"""A ``codec_lm`` base made of a checkpoint that knows no speech, or of a GGUF file.

What the layout adds to the tokenizer gets rows in the embedding and in the head. Notation: v rows
of tokens that were known, n new ones, d features, k codes, c features of a code's centroid.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import torch
import transformers
from huggingface_hub import save_torch_state_dict
from numpy.typing import NDArray
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from jobs.codecs.codec import load_codec
from jobs.families.codec_lm_text import ARCHITECTURES, read_backbone
from jobs.families.description import digest_files, directory_of
from jobs.families.layout import LAYOUT_FILE, Layout, TokenStream
from jobs.problems import InputError, Problem, collecting

NewRows = Literal["spread", "centroids"]
FACTS_FILE = "made_from.json"
_GGUF = ".gguf"
_SEED = 0


@dataclass(frozen=True)
class MadeBase:
    """What a base was made of; :data:`FACTS_FILE` in its directory."""

    source: str
    digest: str
    """SHA-256 of the source's weights, configuration and tokenizer, or of the GGUF file."""
    rows: NewRows
    codec: str | None
    """The digest of the codec whose centroids the rows follow."""
    added_tokens: int
    added_rows: int
    """Fewer than the tokens where the checkpoint had rows of no token."""
    transformers: str


def make_base(
    source: str, layout_file: Path, target: Path, rows: NewRows, codec: Path | None
) -> MadeBase:
    """Write a base directory ``target``: weights, tokenizer with the layout's tokens, layout.

    Args:
        source: a checkpoint's directory, ``hub:`` and an id, or a GGUF file, whose weights become
            fp32.
        layout_file: the layout.
        target: must not be there; it is there whole or not at all.
        rows: how the rows of tokens that the tokenizer lacks begin; see :func:`new_rows`.
        codec: the directory of the codec, for ``centroids``.

    Raises:
        InputError: with all that is wrong; nothing was written.
    """
    problems: list[Problem] = []
    if target.exists():
        step = "Name another directory, or remove it."
        problems.append(Problem(str(target), "a base must go where nothing is, but is there", step))
    layout, checkpoint, centroids = None, None, None
    with collecting(problems):
        layout = _read_layout(layout_file)
    with collecting(problems):
        checkpoint = _find(source)
    if layout is not None and rows == "centroids":
        with collecting(problems):
            centroids = _centroids(layout, codec)
    if problems or layout is None or checkpoint is None:
        raise InputError(problems)
    model, tokenizer, digest = _load(checkpoint)
    known, before = len(tokenizer), model.get_input_embeddings().num_embeddings
    tokens, vocabulary = layout.added_tokens(), tokenizer.get_vocab()
    # A tokenizer may name a token that its model has no row for.
    missing = [token for token in tokens if vocabulary.get(token, before) >= before]
    # Those that are known too: a tokenizer out of a GGUF file would read them in pieces.
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in tokens])
    TokenStream(layout, tokenizer)
    if missing:
        _write_rows(model, tokenizer, layout, missing, min(known, before), centroids)
    made = MadeBase(
        source=source,
        digest=digest,
        rows=rows,
        codec=None if centroids is None else centroids.digest,
        added_tokens=len(missing),
        added_rows=model.get_input_embeddings().num_embeddings - before,
        transformers=version("transformers"),
    )
    _write(model, tokenizer, layout_file, target, made)
    return made


def new_rows(
    known: Tensor, tokens: int, codes: Sequence[int], centroids: NDArray[np.float32] | None
) -> Tensor:
    """Rows (n, d) for ``tokens`` new tokens: ``mean + deviation * z``, feature by feature.

    Mean and standard deviation are those of the rows ``known`` (v, d), so that a new row is as far
    from them as they are from each other. z (n, d) is drawn from a standard normal distribution;
    with ``centroids`` (k, c) those of the codes are these, projected to d features by one Gaussian
    matrix (c, d) and standardised over the k codes: what sounds alike then has rows that are alike,
    since such a projection keeps ratios of distances within a few per cent for c and d of hundreds
    (Johnson and Lindenstrauss 1984). ``codes`` has a code, or -1, for each new token.

    It depends on nothing else: the same arguments give the same rows.
    """
    draw = np.random.default_rng(_SEED)
    z = draw.standard_normal((tokens, known.shape[1]))
    if centroids is not None:
        projected = centroids.astype(np.float64) @ draw.standard_normal(
            (centroids.shape[1], known.shape[1])
        )
        spread = np.maximum(projected.std(axis=0), np.finfo(np.float64).tiny)
        projected = (projected - projected.mean(axis=0)) / spread
        of_code = np.asarray(codes)
        z[of_code >= 0] = projected[of_code[of_code >= 0]]
    rows = known.double()
    deviation, mean = torch.std_mean(rows, dim=0)
    return mean + deviation * torch.from_numpy(z)


@dataclass(frozen=True)
class _Checkpoint:
    source: str
    directory: Path
    gguf: str | None
    architecture: str
    """The class of ``transformers``."""


def _read_layout(path: Path) -> Layout:
    try:
        return Layout.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        step = "Write it as docs/codec-lm.md says."
        raise InputError([Problem(str(path), f"it must be a layout: {error}", step)]) from None


def _find(source: str) -> _Checkpoint:
    """The source, by its configuration: no weight is read."""
    try:
        if source.endswith(_GGUF):
            path = Path(source)
            kind = AutoConfig.from_pretrained(path.parent, gguf_file=path.name).model_type
            if kind not in ARCHITECTURES:
                known = " or ".join(ARCHITECTURES)
                raise ValueError(f"it must be of {known}, got {kind}")
            return _Checkpoint(source, path.parent, path.name, ARCHITECTURES[kind])
        directory = directory_of(source)
        kind = read_backbone(directory)["model_type"]
        return _Checkpoint(source, directory, None, ARCHITECTURES[kind])
    except (OSError, ValueError) as error:
        what = f"it must be a checkpoint that the family runs: {error}"
        step = "Name a directory, hub: and an id, or a .gguf file."
        raise InputError([Problem(source, what, step)]) from None


@dataclass(frozen=True)
class _Centroids:
    values: NDArray[np.float32]
    digest: str


def _centroids(layout: Layout, directory: Path | None) -> _Centroids:
    step = "Name the codec of the layout with --codec, or take --rows spread."
    try:
        if directory is None:
            raise ValueError("none was named")
        codec = load_codec(directory)
        if codec.codebook_size != layout.codebook_size:
            raise ValueError(
                f"it has {codec.codebook_size} codes, and the layout {layout.codebook_size}"
            )
    except (OSError, ValueError, ImportError) as error:
        what = f"rows by centroids need the codec of the layout: {error}"
        raise InputError([Problem(str(directory or "--codec"), what, step)]) from None
    return _Centroids(codec.centroids(), codec.digest)


def _load(checkpoint: _Checkpoint) -> tuple[Any, Any, str]:
    """Model, tokenizer and digest."""
    place, gguf = checkpoint.directory, checkpoint.gguf
    loader = getattr(transformers, checkpoint.architecture)
    if gguf is None:
        names = [place / "config.json", *place.glob("tokenizer*"), *place.glob("*.safetensors")]
        digest = digest_files(sorted(path for path in names if path.is_file()))
        model = loader.from_pretrained(place, dtype="auto")
        return model, AutoTokenizer.from_pretrained(place), digest
    with redirect_stderr(StringIO()):  # a progress bar, which cannot be switched off
        model = loader.from_pretrained(place, gguf_file=gguf, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(place, gguf_file=gguf), digest_files([place / gguf])


def _write_rows(
    model: Any,  # noqa: ANN401 (Hugging Face's)
    tokenizer: Any,  # noqa: ANN401 (as above)
    layout: Layout,
    missing: Sequence[str],
    known: int,
    centroids: _Centroids | None,
) -> None:
    """Of the tokens that were missing, in place."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    code_of = {t: i for i, t in enumerate(layout.added_tokens()[-layout.codebook_size :])}
    codes = [code_of.get(token, -1) for token in missing]
    ids = tokenizer.convert_tokens_to_ids(list(missing))
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    for layer in layers:
        values = None if centroids is None else centroids.values
        rows = new_rows(layer.weight.detach()[:known], len(missing), codes, values)
        layer.weight.data[ids] = rows.to(layer.weight.dtype)


def _write(
    model: Any,  # noqa: ANN401 (Hugging Face's)
    tokenizer: Any,  # noqa: ANN401 (as above)
    layout_file: Path,
    target: Path,
    made: MadeBase,
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    written.mkdir()
    try:
        weights = model.state_dict()
        if model.config.tie_word_embeddings:
            del weights["lm_head.weight"]
        # Not by the model's own save_pretrained, which imports DeepSpeed, which prints.
        save_torch_state_dict(weights, str(written))
        model.config.save_pretrained(written)
        tokenizer.save_pretrained(written)
        shutil.copyfile(layout_file, written / LAYOUT_FILE)
        facts = json.dumps(asdict(made), indent=2, sort_keys=True)
        (written / FACTS_FILE).write_text(facts + "\n", encoding="utf-8")
        written.rename(target)
    finally:
        shutil.rmtree(written, ignore_errors=True)
