"""The acoustic stage without a model: each semantic code stands for the same few acoustic ones.

It is right where semantic codes are classes of acoustic ones, each sounded by one of its class, and
with the table ``0, 1, 2, ...`` it makes a codec in one stage a codec in two.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file


@dataclass(frozen=True, eq=False)
class TableStage:
    """See :class:`jobs.codecs.two_stage.AcousticStage`."""

    table: NDArray[np.int64]
    """The acoustic codes of each semantic code, shape (k, r)."""
    acoustic_codes: int
    digest: str

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read ``config.json`` (``acoustic_codes``) and ``table.safetensors`` (``table``).

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the table is no matrix of codes within the range.
        """
        described, path = (directory / "config.json").read_bytes(), directory / "table.safetensors"
        codes = json.loads(described).get("acoustic_codes")
        table = load_file(path).get("table")
        if table is None or table.ndim != 2 or not table.size:
            found = "none" if table is None else table.shape
            raise ValueError(f"{path}: table must be (codes, acoustic codes of each), got {found}")
        if not np.issubdtype(table.dtype, np.integer):
            raise ValueError(f"{path}: table must be of integers, got {table.dtype}")
        if type(codes) is not int or table.min() < 0 or table.max() >= codes:
            raise ValueError(
                f"{path}: table must hold codes below acoustic_codes, got {table.min()} to "
                f"{table.max()}, and acoustic_codes {codes!r}"
            )
        digest = hashlib.sha256(described + path.read_bytes()).hexdigest()
        return cls(table.astype(np.int64), codes, digest)

    @property
    def semantic_codes(self) -> int:
        """How many different codes it reads."""
        return len(self.table)

    def render(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the codes, one after another."""
        return self.table[codes].reshape(-1)

    def render_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Each chunk at once: together what :meth:`render` gives."""
        return map(self.render, chunks)


load = TableStage.load
