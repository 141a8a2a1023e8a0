"""Parquet tables read and written: every failure names the file, and a file is whole or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embodied.recording.format import DatasetError

ROWS_PER_GROUP = 64  # what a random frame reads: 0.4 MB of JPEGs at 128x128


@contextmanager
def naming_broken(file: Path) -> Iterator[None]:
    """Raise DatasetError where a parquet file that is read within is absent or broken; a lack of memory passes."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(file, "no such file") from None
    except MemoryError:  # which arrow's is, beside an ArrowException
        raise
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError(str(error)) from error
        raise DatasetError(file, f"truncated or not parquet ({error})") from error


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Return columns of a parquet file, all by default; raise DatasetError if it is absent, broken, or lacks one."""
    with naming_broken(file), pq.ParquetFile(file, memory_map=True) as parquet:
        if missing := [name for name in columns or () if name not in parquet.schema_arrow.names]:
            raise DatasetError(file, f"no column {missing}; it has {parquet.schema_arrow.names}")
        return parquet.read(columns)


def column_names(file: Path) -> list[str]:
    """Return the names of a parquet file's columns; raise DatasetError if it is absent or broken."""
    with naming_broken(file):
        return list(pq.read_schema(file).names)


def write_table(path: Path, table: pa.Table, *, image_columns: int = 0) -> None:
    """Write table as parquet so that the file is whole or absent; JPEGs, the first columns, stay uncompressed.

    Raise DatasetError, naming the file, where the disk is full; no part of it is left.
    """
    partial = path.with_name(path.name + ".partial")
    images = table.schema.names[:image_columns]
    plain = [name for name in table.schema.names if name not in images]
    compression = dict.fromkeys(plain, "snappy") | {f"{n}.{leaf}": "none" for n in images for leaf in ("bytes", "path")}
    options = {"row_group_size": ROWS_PER_GROUP} if images else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, partial, compression=compression, use_dictionary=False, write_statistics=plain, **options)
    except OSError as error:  # Arrow's own words name no file
        partial.unlink(missing_ok=True)
        raise DatasetError(path, f"cannot be written: {error}") from error
    os.replace(partial, path)


def array_of(column: pa.ChunkedArray, shape: Iterable[int] = ()) -> NDArray[Any]:
    """Return a column of numbers as (n, *shape), lists flattened; raise ValueError if its rows are others."""
    values = column.combine_chunks()
    while pa.types.is_nested(values.type) or isinstance(values, pa.ExtensionArray):
        values = values.storage if isinstance(values, pa.ExtensionArray) else values.flatten()
    found = np.asarray(values.to_numpy(zero_copy_only=False))
    return np.ascontiguousarray(found.reshape(len(column), *shape))


def texts_of(column: pa.ChunkedArray) -> tuple[str, ...]:
    """Return a column of text; rows that say the same share one string, so that a million cost little."""
    coded = column.combine_chunks().dictionary_encode()
    texts = coded.dictionary.to_pylist()
    return tuple(texts[i] if i is not None else "" for i in coded.indices.to_pylist())
