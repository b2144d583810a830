"""Tables in Parquet or Arrow's own formats, on this machine: rows, and recordings in their cells.

Hugging Face's ``datasets`` writes them: Parquet for the hub, Arrow streams by ``save_to_disk``. An
audio column is a struct of ``bytes`` and ``path``, as ``datasets.Audio`` stores it.
"""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import pyarrow
import pyarrow.parquet

from cluster.names import ARROW, CELL, PARQUET, SourceError, shown
from cluster.sources.local_files import open_file, refuse_size

_ROWS = 256
"""Rows that are read at a time."""
_BYTES, _PATH = "bytes", "path"
_MANY_BYTES = 2**63 - 1


@dataclass(frozen=True)
class ArrowTable:
    """An open table: its columns, and its rows without the sound."""

    path: str
    columns: dict[str, str]
    """By name what a column holds, in words."""
    rows: int

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The values of ``columns``, row after row.

        Of an audio column, the location of its bytes where it has them, else its path.

        Raises:
            SourceError: the file is damaged.
        """
        held = [name for name in columns if self.columns[name] == AUDIO and self._holds(name)]
        wanted = [f"{name}.{_PATH}" if self.columns[name] == AUDIO else name for name in columns]
        number = 0
        try:
            for batch in _batches(self.path, [name for name in wanted if name not in held]):
                for values in batch.to_pylist():
                    for name in columns:
                        if name in held:
                            values[name] = f"{CELL}://{number}/{quote(name, safe='')}/{self.path}"
                        elif self.columns[name] == AUDIO:
                            values[name] = (values[name] or {}).get(_PATH)
                    yield values
                    number += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from None

    def _holds(self, column: str) -> bool:
        """Whether the first cell of an audio column has bytes, and not a path alone."""
        return self.rows > 0 and _cell(self.path, 0, column) is not None


AUDIO = "recordings"
"""What the columns of :class:`ArrowTable` say of a column whose cells are recordings."""


def open_table(path: str) -> ArrowTable:
    """The table at ``path``, a location on this machine.

    Raises:
        SourceError: it cannot be read as Parquet or Arrow.
    """
    table = _open(path, os.stat(path).st_mtime_ns)
    is_parquet = isinstance(table, pyarrow.parquet.ParquetFile)
    schema = table.schema_arrow if is_parquet else table.schema
    columns = {each.name: _in_words(each.type) for each in schema}
    return ArrowTable(path, columns, table.metadata.num_rows if is_parquet else table.num_rows)


def open_cell(location: str, limit: int) -> BinaryIO:
    """The bytes that a location of :meth:`ArrowTable.read` names.

    Raises:
        SourceError: there are none, more than ``limit``, or the file cannot be read.
    """
    number, column, path = location.removeprefix(f"{CELL}://").split("/", 2)
    found = _cell(path, int(number), unquote(column))
    if found is None:
        what = f"must be in its cell, but row {int(number) + 1} of {shown(path)} has no bytes"
        raise SourceError("missing", what, "Fill the cell, or leave the row out.")
    if len(found) > limit:
        raise refuse_size(location, len(found), limit)
    return io.BytesIO(found)


def _in_words(kind: pyarrow.DataType) -> str:
    if pyarrow.types.is_struct(kind) and {_BYTES, _PATH} <= {field.name for field in kind}:
        return AUDIO
    return str(kind)


def _cell(path: str, number: int, column: str) -> bytes | None:
    try:
        modified = os.stat(path).st_mtime_ns
        table = _open(path, modified)
        if isinstance(table, pyarrow.parquet.ParquetFile):
            group = 0
            while number >= (size := table.metadata.row_group(group).num_rows):
                number -= size
                group += 1
            cells = _row_group(path, modified, group, column)
        else:
            cells = table.column(column)
        cell = cells[number].as_py()
    except (pyarrow.ArrowException, OSError, IndexError) as error:
        raise _damaged(path, error) from None
    return None if cell is None else cell[_BYTES]


def _batches(path: str, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    table = _open(path, os.stat(path).st_mtime_ns)
    if isinstance(table, pyarrow.parquet.ParquetFile):
        yield from table.iter_batches(_ROWS, columns=list(columns))
        return
    tops = [name.removesuffix(f".{_PATH}") for name in columns]
    names = [
        name if name in table.column_names else top for name, top in zip(columns, tops, strict=True)
    ]
    yield from table.select(names).to_batches(_ROWS)


@lru_cache(maxsize=8)
def _open(path: str, modified: int) -> "pyarrow.parquet.ParquetFile | pyarrow.Table":
    """A Parquet file, or the table of an Arrow file, mapped into memory and not read."""
    try:
        with open_file(path, _MANY_BYTES) as file:
            start = file.read(8)
        if start.startswith(PARQUET):
            return pyarrow.parquet.ParquetFile(path, memory_map=True)
        source = pyarrow.memory_map(path)
        if start.startswith(ARROW[0]):
            return pyarrow.ipc.open_file(source).read_all()
        return pyarrow.ipc.open_stream(source).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


@lru_cache(maxsize=1)
def _row_group(path: str, modified: int, group: int, column: str) -> pyarrow.ChunkedArray:
    """The recordings of a row group: neighbours are asked for one after the other."""
    table = _open(path, modified)
    assert isinstance(table, pyarrow.parquet.ParquetFile)
    return table.read_row_group(group, columns=[column]).column(0)


def _damaged(path: str, error: Exception) -> SourceError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    what = f"must be whole Parquet or Arrow, but {shown(path)} is not ({reason})"
    return SourceError("unreadable", what, "Write it again.")
