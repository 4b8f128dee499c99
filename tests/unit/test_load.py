"""Loading an output: whole shards in order, and the inputs joined back by position."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import load_predictions
from pipeline.errors import (
    ChangedInputError,
    ContractError,
    CorruptShardError,
    IncompleteError,
    NoInputError,
    NotFoundError,
    OutputMismatchError,
    UsageError,
)
from pipeline.frames import frame_of
from pipeline.predictions import schema_of
from tests.unit import outputs
from tests.unit.outputs import Made

A, B, C = "a.parquet", "b.parquet", "d=1/c.parquet"
BAD = [2, 5, 9]
GOOD = [row for row in range(10) if row not in BAD]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Three shards of 10, 7 and 3 rows, the first with three bad rows."""
    return outputs.finished(tmp_path)


def lake_of(made: Made) -> pd.DataFrame:
    """The input, row for row, with what the model makes of it."""
    frames = [pq.read_table(made.lake / name).to_pandas() for name in (A, B, C)]
    whole = pd.concat(frames, ignore_index=True)
    return whole.assign(prediction=2 * whole["x"])


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    return True


# What is loaded


def test_all_shards_are_loaded_in_the_order_of_their_names(made: Made) -> None:
    frame = load_predictions(made.out)
    assert same(frame, lake_of(made).drop(index=BAD)[["id", "name", "prediction"]])
    assert list(frame.index) == list(range(17))


def test_an_arrow_table_holds_the_same_and_not_the_notes_of_files(made: Made) -> None:
    table = load_predictions(str(made.out), as_arrow=True)
    assert isinstance(table, pa.Table)
    assert table.schema.metadata is None
    assert same(table.to_pandas(), load_predictions(made.out))


def test_positions_say_where_each_row_comes_from(made: Made) -> None:
    frame = load_predictions(made.out, positions=True)
    assert list(frame) == ["shard", "row", "id", "name", "prediction"]
    assert frame["shard"].tolist() == [A] * 7 + [B] * 7 + [C] * 3
    assert frame["row"].tolist() == [*GOOD, *range(7), *range(3)]
    assert frame["shard"].dtype == "category"


def test_columns_are_those_that_were_named_in_their_order(made: Made) -> None:
    assert list(load_predictions(made.out, columns=["prediction", "id"])) == ["prediction", "id"]
    frame = load_predictions(made.out, columns=[], positions=True)
    assert list(frame) == ["shard", "row"]
    assert len(frame) == 17


def test_a_column_that_is_not_there_is_refused_with_those_that_are(made: Made) -> None:
    with pytest.raises(UsageError, match="no such column") as caught:
        load_predictions(made.out, columns=["id", "y", "x"])
    assert caught.value.column == "y, x"
    assert caught.value.expected == "some of id, name, prediction"


# Joining the input


def test_the_input_is_joined_back_by_position(made: Made) -> None:
    frame = load_predictions(made.out, inputs=True)
    assert same(frame, lake_of(made).drop(index=BAD))
    assert list(frame) == ["id", "x", "name", "prediction"]


@pytest.mark.parametrize("said", [str, Path, lambda at: [at], lambda at: (str(at / "*.parquet"),)])
def test_the_input_may_be_said_to_be_elsewhere(made: Made, said: Any, tmp_path: Path) -> None:
    expected = load_predictions(made.out, inputs=True)
    elsewhere = tmp_path / "elsewhere"
    made.lake.rename(elsewhere)
    with pytest.raises(NoInputError):
        load_predictions(made.out, inputs=True)
    address = said(elsewhere)
    if isinstance(address, tuple):  # a glob that finds two of three
        with pytest.raises(NoInputError, match="not in the input") as caught:
            load_predictions(made.out, inputs=address)
        assert caught.value.expected == C
    else:
        assert same(load_predictions(made.out, inputs=address), expected)


def test_only_the_columns_that_are_wanted_are_joined(made: Made) -> None:
    frame = load_predictions(made.out, inputs=True, columns=["prediction", "x"])
    assert list(frame) == ["prediction", "x"]
    assert frame["prediction"].tolist() == (2 * frame["x"]).tolist()
    only_input = load_predictions(made.out, inputs=True, columns=["x"])
    assert same(only_input, lake_of(made).drop(index=BAD)[["x"]])


def test_bad_rows_are_loaded_in_their_places_with_their_reasons(made: Made) -> None:
    frame = load_predictions(made.out, bad_rows=True, positions=True)
    expected = lake_of(made)
    expected.loc[BAD, "prediction"] = math.nan
    assert same(frame[["id", "name", "prediction"]], expected[["id", "name", "prediction"]])
    assert frame["row"].tolist() == [*range(10), *range(7), *range(3)]
    reasons = {row: text for row, text in frame["bad_row_reason"].items() if not pd.isna(text)}
    assert reasons == {row: f"bad {row}" for row in BAD}


def test_bad_rows_and_the_input_are_joined_together(made: Made) -> None:
    frame = load_predictions(made.out, inputs=True, bad_rows=True)
    assert list(frame) == ["id", "x", "name", "prediction", "bad_row_reason"]
    assert same(frame[["id", "x", "name"]], lake_of(made)[["id", "x", "name"]])
    assert np.flatnonzero(frame["prediction"].isna()).tolist() == BAD
    assert load_predictions(made.out, inputs=True, bad_rows=True, columns=["x"]).shape == (20, 1)


def test_an_input_that_changed_since_is_refused(made: Made) -> None:
    pq.write_table(outputs.rows(7, 200), made.lake / B)
    with pytest.raises(ChangedInputError, match="since it was scored") as caught:
        load_predictions(made.out, inputs=True)
    assert caught.value.path == str(made.lake / B)
    load_predictions(made.out)  # without the input there is nothing to mix


def test_an_input_that_changes_while_it_is_read_is_refused(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = made.shards

    def older(*_: object, **__: object) -> Any:
        from pipeline.discover import Discovery

        return Discovery(tuple(replace(s, mtime_ns=s.mtime_ns - 1) for s in known.values()), ())

    monkeypatch.setattr("pipeline.load.discover", older)
    with pytest.raises(ChangedInputError, match="while it was read"):
        load_predictions(made.out, inputs=True)


def test_a_shard_of_the_input_that_cannot_be_read_is_named(made: Made) -> None:
    (made.lake / B).write_bytes(b"PAR1")
    with pytest.raises(CorruptShardError) as caught:
        load_predictions(made.out, inputs=True)
    assert caught.value.path == str(made.lake / B)


def test_an_input_behind_a_link_out_of_the_lake_is_found(made: Made, tmp_path: Path) -> None:
    expected = load_predictions(made.out, inputs=True)
    (made.lake / B).rename(tmp_path / "b.parquet")
    (made.lake / B).symlink_to(tmp_path / "b.parquet")
    assert same(load_predictions(made.out, inputs=True), expected)


def test_without_a_report_the_input_has_to_be_said(made: Made) -> None:
    for path in (made.out / "_shardscore" / "reports").iterdir():
        path.unlink()
    with pytest.raises(NoInputError, match="no run says") as caught:
        load_predictions(made.out, inputs=True)
    assert "inputs=" in (caught.value.hint or "")
    assert len(load_predictions(made.out, inputs=made.lake)) == 17


def one_shard(
    folder: Path, table: pa.Table, published: pa.Table, bad: tuple[int, ...] = ()
) -> Made:
    """A complete output of one shard whose columns are as given."""
    made = outputs.begin(folder, {A: table})
    note = outputs.note_for(made.shards[A], len(bad))
    if bad:
        made.publish(f"_shardscore/quarantine/{A}", outputs.letters(table, bad), note)
    made.publish(A, published, note)
    assert made.complete()
    return made


def test_a_column_of_the_input_with_the_name_of_a_prediction_is_told_apart(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0], "prediction": [7.0, 8.0]})
    made = one_shard(tmp_path, table, pa.table({"prediction": [2.0, 4.0]}))
    with pytest.raises(ContractError, match="name of a prediction") as caught:
        load_predictions(made.out, inputs=True)
    assert caught.value.column == "prediction"
    frame = load_predictions(made.out, inputs=True, columns=["x", "prediction"])
    assert frame["prediction"].tolist() == [2.0, 4.0]


def test_a_bad_row_has_no_prediction_also_where_its_input_has_a_column_of_that_name(
    tmp_path: Path,
) -> None:
    table = pa.table({"id": [1, 2], "prediction": [7.0, 8.0]})
    made = one_shard(tmp_path, table, pa.table({"id": [2], "prediction": [4.0]}), bad=(0,))
    frame = load_predictions(made.out, bad_rows=True)
    assert frame["id"].tolist() == [1, 2]
    assert frame["prediction"].isna().tolist() == [True, False]


def test_rows_that_were_scored_as_null_stay_in_their_places(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3]})
    reasons = pa.array([None, "null in x", None])
    published = table.append_column("prediction", pa.array([1.0, None, 3.0], pa.float32()))
    made = one_shard(tmp_path, table, published.append_column("bad_row_reason", reasons))
    for options in ({}, {"bad_rows": True}, {"inputs": True, "bad_rows": True}):
        loaded = load_predictions(made.out, as_arrow=True, **options)  # type: ignore[call-overload]
        assert loaded.to_pydict() == {
            "id": [1, 2, 3],
            "prediction": [1.0, None, 3.0],
            "bad_row_reason": [None, "null in x", None],
        }


def test_a_dot_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [3, 4], "a.c": [5, 6]})
    made = one_shard(tmp_path, table, table.select(["a.b"]).append_column("a.p", pa.array([7, 8])))
    loaded = load_predictions(made.out, inputs=True, as_arrow=True)
    assert loaded.to_pydict() == {
        "a": [{"b": 1}, {"b": 2}], "a.b": [3, 4], "a.c": [5, 6], "a.p": [7, 8],
    }  # fmt: skip
    only = load_predictions(made.out, inputs=True, columns=["a.b", "a.c"], as_arrow=True)
    assert only.to_pydict() == {"a.b": [3, 4], "a.c": [5, 6]}


def test_a_name_that_positions_need_is_refused_unless_it_is_left_out(tmp_path: Path) -> None:
    table = pa.table({"row": [1, 2]})
    made = one_shard(tmp_path, table, table.append_column("prediction", pa.array([1.0, 2.0])))
    with pytest.raises(UsageError, match="'row'"):
        load_predictions(made.out, positions=True)
    frame = load_predictions(made.out, positions=True, columns=["prediction"])
    assert frame["row"].tolist() == [0, 1]


def test_shards_of_other_columns_and_widths_are_brought_together(tmp_path: Path) -> None:
    tables = {
        A: pa.table({"id": pa.array([1], pa.int32()), "only": ["a"]}),
        B: pa.table({"id": pa.array([2**40], pa.int64())}),
    }
    made = outputs.begin(tmp_path, tables)
    for name, table in tables.items():
        scores = pa.array([1.0], pa.float32())
        note = outputs.note_for(made.shards[name])
        made.publish(name, table.append_column("prediction", scores), note)
    assert made.complete()
    loaded = load_predictions(made.out, as_arrow=True)
    assert loaded.to_pydict() == {
        "id": [1, 2**40], "only": ["a", None], "prediction": [1.0, 1.0],
    }  # fmt: skip
    only = load_predictions(made.out, columns=["only"], as_arrow=True)
    assert only.to_pydict() == {"only": ["a", None]}


def test_shards_whose_columns_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    tables = {A: pa.table({"id": [1]}), B: pa.table({"id": ["one"]})}
    made = outputs.begin(tmp_path, tables)
    for name, table in tables.items():
        note = outputs.note_for(made.shards[name])
        made.publish(name, table.append_column("prediction", pa.array([1.0])), note)
    assert made.complete()
    with pytest.raises(ContractError, match="do not fit together") as caught:
        load_predictions(made.out)
    assert "id" in (caught.value.received or "")
    assert load_predictions(made.out, columns=["prediction"]).shape == (2, 1)


# What is refused


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no output") as caught:
        load_predictions(tmp_path / "typo")
    assert caught.value.path == str(tmp_path / "typo")


def test_an_output_with_work_left_is_refused_unless_that_is_wanted(made: Made) -> None:
    (made.out / B).unlink()
    with pytest.raises(IncompleteError) as caught:
        load_predictions(made.out)
    assert caught.value.received == "2 shards published"
    assert "`score`" in (caught.value.hint or "")
    frame = load_predictions(made.out, incomplete_ok=True, positions=True)
    assert frame["shard"].unique().tolist() == [A, C]


def test_an_output_without_success_is_not_complete(made: Made) -> None:
    (made.out / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError) as caught:
        load_predictions(made.out)
    assert caught.value.received == "3 shards published, no _SUCCESS"


def test_of_an_output_with_nothing_published_an_empty_table_is_loaded(tmp_path: Path) -> None:
    made = outputs.begin(tmp_path, {A: outputs.rows(3)})
    for options in ({}, {"inputs": True, "bad_rows": True}, {"columns": ["prediction"]}):
        assert len(load_predictions(made.out, incomplete_ok=True, **options)) == 0  # type: ignore[call-overload]
    frame = load_predictions(made.out, incomplete_ok=True, positions=True)
    assert list(frame) == ["shard", "row"]


def test_a_file_of_another_program_or_job_is_refused(made: Made) -> None:
    note = outputs.note_for(made.shards[B])
    table = outputs.scored(pq.read_table(made.lake / B))
    made.publish(B, table, replace(note, fingerprint="e" * 64))
    with pytest.raises(OutputMismatchError) as caught:
        load_predictions(made.out)
    assert caught.value.path == str(made.out / B)
    pq.write_table(table, made.out / B)
    with pytest.raises(OutputMismatchError):
        load_predictions(made.out)


def test_without_run_json_the_files_still_have_to_be_of_one_job(made: Made) -> None:
    (made.out / "_shardscore" / "run.json").unlink()
    assert len(load_predictions(made.out)) == 17
    note = outputs.note_for(made.shards[B])
    table = outputs.scored(pq.read_table(made.lake / B))
    made.publish(B, table, replace(note, fingerprint="e" * 64))
    with pytest.raises(OutputMismatchError):
        load_predictions(made.out)


def test_without_run_json_nothing_is_joined_since_predictions_are_not_known(made: Made) -> None:
    (made.out / "_shardscore" / "run.json").unlink()
    for options in ({"inputs": True}, {"bad_rows": True}):
        with pytest.raises(OutputMismatchError, match="which columns are predictions"):
            load_predictions(made.out, **options)  # type: ignore[call-overload]


def test_rows_that_are_lost_are_found(made: Made) -> None:
    table = outputs.scored(pq.read_table(made.lake / B))
    made.publish(B, table.slice(1), outputs.note_for(made.shards[B]))
    with pytest.raises(CorruptShardError) as caught:
        load_predictions(made.out)
    assert (caught.value.expected, caught.value.received) == ("7 rows", "6 rows")


@pytest.mark.parametrize("numbers", [[2, 5], [2, 9, 5], [2, 2, 5], [-1, 2, 5], [2, 5, 10]])
def test_dead_letters_that_do_not_fit_are_refused_where_they_matter(
    made: Made, numbers: list[int]
) -> None:
    table = outputs.letters(pq.read_table(made.lake / A), range(len(numbers)))
    place = table.schema.get_field_index("quarantine_row")
    table = table.set_column(place, "quarantine_row", pa.array(numbers, pa.int64()))
    note = outputs.note_for(made.shards[A], 3)
    made.publish(f"_shardscore/quarantine/{A}", table, note)
    load_predictions(made.out)
    for options in ({"positions": True}, {"inputs": True}, {"bad_rows": True}):
        with pytest.raises(CorruptShardError, match="dead-letter"):
            load_predictions(made.out, **options)  # type: ignore[call-overload]


def test_dead_letters_that_are_gone_are_named(made: Made) -> None:
    (made.out / "_shardscore" / "quarantine" / A).unlink()
    with pytest.raises(NotFoundError) as caught:
        load_predictions(made.out, positions=True)
    assert (caught.value.path or "").endswith(f"quarantine/{A}")


# The law: each row is joined to the row it came from


@settings(max_examples=30)  # each writes a lake and an output
@given(st.lists(st.tuples(st.integers(0, 12), st.sets(st.integers(0, 11))), min_size=1, max_size=3))
def test_each_row_is_joined_to_the_one_it_came_from(
    tmp_path_factory: pytest.TempPathFactory, shards: list[tuple[int, set[int]]]
) -> None:
    lake = {f"{i}.parquet": outputs.rows(count, 100 * i) for i, (count, _) in enumerate(shards)}
    made = outputs.begin(tmp_path_factory.mktemp("law"), lake)
    for name, (count, bad) in zip(lake, shards, strict=True):
        made.score(name, {row for row in bad if row < count})
    made.complete()
    frame = load_predictions(made.out, inputs=True, positions=True)
    assert frame["prediction"].tolist() == (2 * frame["x"]).tolist()
    assert frame["id"].tolist() == [
        100 * i + row for i, (count, bad) in enumerate(shards) for row in range(count)
        if row not in bad
    ]  # fmt: skip
    assert (frame["row"] == frame["id"] % 100).all()
    whole = load_predictions(made.out, inputs=True, bad_rows=True)
    assert len(whole) == sum(count for count, _ in shards)
    assert whole["x"].tolist() == whole["id"].tolist()
    assert whole["bad_row_reason"].isna().tolist() == whole["prediction"].notna().tolist()


# Of every type

KINDS = {
    "tensor": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
    "bool_tensor": np.array([[[True], [False]]] * 3),
    "half_tensor": np.ones((3, 2, 2), np.float16),
    "short": np.ones((3, 2), ml_dtypes.bfloat16),
    "vector": np.arange(6, dtype=np.int64).reshape(3, 2) + 2**53,
    "words": np.array([[["a"], ["b"]]] * 3, object),
    "text": np.array(["a", "b", "c"], object),
    "number": np.array([2**53 + 1, -1, 0]),
    "small": np.array([255, 1, 0], np.uint8),
    "flag": np.array([True, False, True]),
}


@pytest.mark.parametrize("bad", [(), (1,)], ids=["all good", "with a bad row"])
def test_columns_of_every_type_become_what_numpy_and_pandas_have_for_them(
    bad: tuple[int, ...], tmp_path: Path
) -> None:
    schema = schema_of(KINDS)
    table = pa.table(
        list(schema.to_arrow(list(KINDS.values()), 3)), schema=pa.schema(schema.fields)
    )
    good = np.array([row not in bad for row in range(3)])
    category = pa.table({"c": pa.array(["p", "q", "p"]).dictionary_encode()})
    published = table.append_column("c", category["c"]).filter(pa.array(good))
    made = one_shard(tmp_path, category, published, bad)
    frame = load_predictions(made.out, bad_rows=True)
    assert frame["c"].tolist() == ["p", "q", "p"]
    for name, array in KINDS.items():
        assert frame[name].isna().tolist() == (~good).tolist()
        for row in np.flatnonzero(good):
            found, expected = frame[name][row], array[row]
            if array.ndim > 1:
                assert found.shape == expected.shape
                assert found.dtype == (np.float32 if name == "short" else expected.dtype)
            assert np.array_equal(found, expected)
    assert frame["number"].dtype == ("Int64" if bad else "int64")
    assert frame["small"].dtype == ("UInt8" if bad else "uint8")
    assert frame["flag"].dtype == ("boolean" if bad else "bool")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.0, None], None], pa.list_(pa.float32(), 2)),
        pa.array([[[1], None], [[2], [3]]], pa.list_(pa.list_(pa.int64(), 1), 2)),
        pa.array([[1], [2, 3]], pa.list_(pa.int64())),
        pa.array([[{"a": 1}], None], pa.list_(pa.struct({"a": pa.int64()}), 1)),
        pa.array([[0], [1]], pa.list_(pa.timestamp("us"), 1)),
        pa.array([b"a", None]),
    ],
    ids=str,
)
def test_columns_that_are_no_plain_arrays_are_left_to_pyarrow(column: Any) -> None:
    frame = frame_of(pa.table({"c": column}))
    expected = pa.table({"c": column}).to_pandas()
    assert repr(frame["c"].tolist()) == repr(expected["c"].tolist())
