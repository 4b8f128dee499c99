"""Load: an output as one table in memory, its inputs joined back if asked for.

Owns what is loaded and how the shards' parts become one table; each part is `by_position`'s. It
only reads, some shards at a time, and without TensorFlow; that the result fits into memory is its
caller's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pyarrow as pa

from pipeline import layout, ledger, report
from pipeline.by_position import Piece, Reader, nulls
from pipeline.discover import discover
from pipeline.errors import (
    ContractError,
    IncompleteError,
    NoInputError,
    OutputMismatchError,
    UsageError,
    shortened,
)
from pipeline.frames import frame_of
from pipeline.status import status
from pipeline.storage import storage_at
from pipeline.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from pipeline.records import Shard
    from pipeline.storage import Storage

SHARD, ROW = "shard", "row"
_THREADS = 4

Address = str | Path


@overload
def load_predictions(
    output: Address,
    *,
    inputs: bool | Address | Sequence[Address] = ...,
    columns: Sequence[str] | None = ...,
    positions: bool = ...,
    bad_rows: bool = ...,
    incomplete_ok: bool = ...,
    as_arrow: Literal[False] = ...,
) -> pd.DataFrame: ...


@overload
def load_predictions(
    output: Address,
    *,
    inputs: bool | Address | Sequence[Address] = ...,
    columns: Sequence[str] | None = ...,
    positions: bool = ...,
    bad_rows: bool = ...,
    incomplete_ok: bool = ...,
    as_arrow: Literal[True],
) -> pa.Table: ...


def load_predictions(
    output: Address,
    *,
    inputs: bool | Address | Sequence[Address] = False,
    columns: Sequence[str] | None = None,
    positions: bool = False,
    bad_rows: bool = False,
    incomplete_ok: bool = False,
    as_arrow: bool = False,
) -> Any:
    """Loads the predictions of an output: all published shards, in the order of their names.

        load_predictions("out/")
        load_predictions("s3://bucket/out", inputs=True, columns=["id", "fare", "prediction"])
        load_predictions("out/", inputs="lake/", positions=True, bad_rows=True)

    Args:
        output: The output's address.
        inputs: Whether the columns of the input that the output does not carry are joined to it;
            or where the input is, if it is elsewhere than the latest run found it.
        columns: Which columns, in which order; None: the input's in its own order, as far as they
            are there, then the predictions. A column of a prediction's name is the prediction.
        positions: Whether each row says where it comes from: in `shard`, the shard's name, and in
            `row`, its number there, counted from 0. They are the first two columns.
        bad_rows: Whether the rows of the dead-letter files are there too, in their places, with
            null predictions and the reason in `bad_row_reason`.
        incomplete_ok: Whether an output with work left is loaded as far as it is published.
        as_arrow: Whether the result is a `pyarrow.Table`.

    Returns:
        A pandas DataFrame, or an Arrow table. In a frame a prediction of more than one number is
        a numpy array a row, of the row's shape; integers and bools that have nulls are pandas'
        `Int64` and its like, so that no integer is rounded.

    Raises:
        NoInputError: There is no output; or a scored shard is not where the input is said to be.
        IncompleteError: There is work left.
        OutputMismatchError: A file in the output is not of its job.
        ChangedInputError: A shard is not the one that was scored.
        ContractError: The columns of the shards do not fit together, or an input's column that
            would be joined has the name of a prediction.
        UsageError: A column does not exist, or has the name of a position.
        CorruptShardError: A file does not decode.
        StorageError: Something could not be read.
    """
    storage = storage_at(str(output))
    names = sorted(layout.published(storage))
    _refuse_unfinished(storage, names, incomplete_ok=incomplete_ok)
    identity = _identity(storage, names, joining=inputs is not False or bad_rows)
    reader = Reader(
        output=storage,
        fingerprint=identity.fingerprint,
        predictions=identity.predictions,
        sources=_sources(storage, inputs, names) if names else None,
        columns=None if columns is None else tuple(columns),
        numbered=positions,
        bad_rows=bad_rows,
    )
    pieces = list(in_threads(reader.piece, names, _THREADS))
    table = _together(pieces)
    if columns is not None and names:
        offered = dict.fromkeys(name for piece in pieces for name in piece.offered)
        _refuse_unknown(columns, list(offered), str(output))
        table = table.select(list(columns))
    if positions:
        table = _with_positions(table, names, pieces)
    return table if as_arrow else frame_of(table)


def _together(pieces: Sequence[Piece]) -> pa.Table:
    """The pieces, one below the other; where one lacks a column of another's there are nulls."""
    if not pieces:
        return pa.table({})
    try:
        schema = pa.unify_schemas(
            [pa.schema([piece.fields[name] for name in piece.columns]) for piece in pieces],
            promote_options="permissive",
        )
        columns = []
        for field in schema:
            parts = [
                piece.columns[field.name].cast(field.type)
                if field.name in piece.columns
                else nulls(piece.count, field.type)
                for piece in pieces
            ]
            chunks = [chunk for part in parts for chunk in part.chunks]
            columns.append(pa.chunked_array(chunks, field.type))
    except pa.ArrowException as error:
        raise ContractError(
            "the columns of the shards do not fit together",
            received=str(error).splitlines()[0],
            hint="say with columns=[…] which to load, and load the others shard by shard",
        ) from error
    return pa.table(columns, schema=schema)


def _with_positions(table: pa.Table, names: Sequence[str], pieces: Sequence[Piece]) -> pa.Table:
    for name in (SHARD, ROW):
        if name in table.column_names:
            raise UsageError(
                f"a column has the name {name!r}, which positions=True needs",
                expected=f"columns without {name!r}",
                hint="say with columns=[…] which columns to load",
            )
    counts = [piece.count for piece in pieces]
    shards = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(names), dtype=np.int32), counts), pa.array(names, pa.string())
    )
    numbers = np.concatenate([np.empty(0, np.int64), *(piece.numbers for piece in pieces)])
    fields = [pa.field(SHARD, shards.type), pa.field(ROW, pa.int64()), *table.schema]
    return pa.table([shards, pa.array(numbers), *table.columns], schema=pa.schema(fields))


def _refuse_unknown(columns: Sequence[str], offered: Sequence[str], output: str) -> None:
    unknown = [name for name in columns if name not in offered]
    if unknown:
        raise UsageError(
            "there is no such column",
            path=output,
            column=", ".join(unknown),
            expected=f"some of {shortened(offered)}",
            hint="inputs=True also offers those of the input that the output does not carry",
        )


def _refuse_unfinished(storage: Storage, names: Sequence[str], *, incomplete_ok: bool) -> None:
    told = status(storage.url)
    if not told["begun"] and not names:
        raise NoInputError(
            "there is no output here",
            path=storage.url,
            hint="check the path; it is what `score` was given as --output",
        )
    if told["complete"] or incomplete_ok:
        return
    shards = told["shards"]
    raise IncompleteError(
        "the output is not complete",
        path=storage.url,
        expected=f"{shards['total']} shards published, and _SUCCESS",
        received=f"{shards['published']} shards published"
        + ("" if told["success"] else ", no _SUCCESS"),
        hint="`status` says what is left and `score` does it; incomplete_ok=True loads the rest",
    )


@dataclass(frozen=True, slots=True)
class _Identity:
    """Whose an output is: the job's fingerprint, and the names of the model's columns."""

    fingerprint: str = ""
    predictions: frozenset[str] = frozenset()


def _identity(output: Storage, names: Sequence[str], *, joining: bool) -> _Identity:
    """What run.json says, or where it is lost the first file, which does not tell columns apart.

    Raises:
        OutputMismatchError: There is no run.json, and it is needed.
    """
    record = layout.read_record(output)
    if record is not None:
        return _Identity(record.identity.fingerprint, frozenset(record.identity.predictions))
    if joining and names:
        raise OutputMismatchError(
            "which columns are predictions is not known, since run.json is lost",
            path=f"{output.url}/{layout.RUN}",
            hint="run the same `score` again, which makes it anew; or load the output alone",
        )
    notes = ledger.notes(output, names[:1]).values()
    return _Identity(next((note.fingerprint for note in notes if note), ""))


def _sources(
    output: Storage, inputs: bool | Address | Sequence[Address], names: Sequence[str]
) -> dict[str, Shard] | None:
    """The input's shards by name, all of `names` among them; None if nothing is to be joined.

    Raises:
        NoInputError: A shard is not there.
        DataError: A shard cannot be read.
    """
    if inputs is False:
        return None
    if inputs is True:
        addresses = [str(address) for address in (report.latest(output) or {}).get("inputs", ())]
    else:
        several = [inputs] if isinstance(inputs, (str, Path)) else inputs
        addresses = [str(address) for address in several]
    if not addresses:
        raise NoInputError(
            "no run says where the input is",
            path=output.url,
            hint="say it: inputs='…', what `score` was given as --input",
        )
    found = discover(addresses, output.url)
    if not {shard.name for shard in found.shards}.issuperset(names):
        # It may be behind a link that `score` was told to follow.
        found = discover(addresses, output.url, follow_links=True)
    sources = {shard.name: shard for shard in found.shards}
    for name in names:
        if name not in sources:
            for failed in found.failed:
                if failed.name == name:
                    raise failed.error
            raise NoInputError(
                "a shard that was scored is not in the input",
                path=output.url,
                expected=name,
                received=shortened(addresses),
                hint="give all that was ever scored to this output: inputs=['…', '…']",
            )
    return sources
