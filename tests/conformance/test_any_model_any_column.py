"""Any model, any column, any output: what is published is what a direct call says of the same rows.

The expected values come from the model as it was made, called by hand on arrays that were built by
hand; nothing of ours is used on that side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job, score
from tests.conformance.kinds import COLUMNS, MODELS, OUTPUTS, ROWS, SECOND, Column, Model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CASES = [
    *((column, "functional", "vector") for column in COLUMNS),
    *(("floats", "functional", output) for output in OUTPUTS if output != "vector"),
    *(
        (column, model, "vector")
        for model in MODELS
        for column in ("columns side by side", "strings", "sequences", "nested lists")
        if model != "functional"
    ),
    *(
        ("int32", model, output)
        for model in ("step that takes x", "dict of inputs", "legacy h5")
        for output in ("nested dict", "lists of strings", "bfloat16")
        if (model, output) != ("legacy h5", "nested dict")  # h5 cannot store such a model
    ),
]


def test_there_are_at_least_sixty_cases() -> None:
    assert len(set(CASES)) == len(CASES) >= 60


@pytest.mark.slow
@pytest.mark.parametrize(("column", "model", "output"), CASES, ids=" · ".join)
def test_the_published_predictions_are_those_of_a_direct_call(
    column: str, model: str, output: str, tmp_path: Path
) -> None:
    given, kind = COLUMNS[column], MODELS[model]
    made = kind.make(given.spec, output)
    path = kind.save(made, tmp_path, given.spec)
    lake = tmp_path / "lake.parquet"
    table = {"id": pa.array(range(ROWS)), **given.table}
    if kind.second:
        table["y"] = pa.array(SECOND)
    pq.write_table(pa.table(table), lake, row_group_size=10)

    job = Job(
        model=path,
        input=(str(lake),),
        output=str(tmp_path / "out"),
        inputs=inputs(given, kind),
        batch_size=16,
        small_shard_rows=0,
        **given.job,
    )
    report = score(job)
    assert report.error is None
    assert not report.failed, report.failed[0].error
    assert report.counts.scored == ROWS

    got = pq.read_table(tmp_path / "out" / "lake.parquet")
    assert got["id"].to_pylist() == list(range(ROWS))
    wanted = flat(direct(kind, made, path, given.array))
    assert sorted(wanted) == sorted(set(got.column_names) - {"id"} - set(given.table))
    for name, array in wanted.items():
        same(got[name].combine_chunks(), array)


def inputs(given: Column, kind: Model) -> dict[str, Any]:
    """The job's tables: only for what the names of the columns do not say."""
    said: dict[str, Any] = {}
    options = dict(given.options)
    if not kind.declares:
        options |= {"dtype": given.spec[1]}
        name = "features"
        options.setdefault("columns", ["x"])
    else:
        name = "x"
    if options:
        said[name] = options
    return said


def direct(kind: Model, made: Any, path: str, array: NDArray[Any]) -> Any:
    """What the model says of the array, called by hand."""
    if kind.call is not None:
        return kind.call(path, {"x": array, "y": SECOND})
    fed: Any = array.astype(bytes) if array.dtype.kind == "U" else array
    if array.dtype == object:
        import tensorflow as tf

        fed = tf.constant(array.tolist())
    if kind.second == "dict":
        fed = {"x": fed, "y": SECOND}
    if kind.second == "list":
        fed = [fed, SECOND]
    return made.predict(fed, batch_size=16, verbose=0)


def flat(outputs: Any, name: str = "") -> dict[str, NDArray[Any]]:
    """Outputs by column, named as the README says."""
    if isinstance(outputs, dict):
        found: dict[str, NDArray[Any]] = {}
        for key, value in outputs.items():
            found |= flat(value, f"{name}.{key}" if name else key)
        return found
    if isinstance(outputs, (list, tuple)):
        found = {}
        for i, value in enumerate(outputs):
            found |= flat(value, f"{name}.{i}" if name else f"prediction_{i}")
        return found
    return {name or "prediction": np.asarray(outputs)}


def same(column: Any, array: NDArray[Any]) -> None:
    """The column holds the array: the same type and shape, floats within the last bits."""
    values, shape = column, array.shape[1:]
    if isinstance(column.type, pa.FixedShapeTensorType):
        assert tuple(column.type.shape) == shape
        values = column.storage
    while pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    if shape == (1,):
        shape = ()
    assert len(values) == len(column) * int(np.prod(shape, dtype=int))
    assert values.null_count == 0
    expected = array.reshape(-1)
    if array.dtype == object or array.dtype.kind in "SU":
        texts = [v.decode() if isinstance(v, bytes) else v for v in expected.tolist()]
        assert values.to_pylist() == texts
        return
    if array.dtype.name == "bfloat16":
        assert values.type == pa.float32()
        expected = expected.astype("float32")
    assert values.type == pa.from_numpy_dtype(expected.dtype)
    got = values.to_numpy(zero_copy_only=False)
    if expected.dtype.kind == "f":
        # The batches are the same; what is left are the last bits of another trace.
        near = 1e-2 if array.dtype.itemsize == 2 else 1e-6
        np.testing.assert_allclose(
            got.astype("float64"), expected.astype("float64"), rtol=near, atol=near
        )
    else:
        np.testing.assert_array_equal(got, expected)
