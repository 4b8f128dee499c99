"""Laws of a run, over random lakes: rows in = rows accounted for, order kept, values as predicted.

One model with inputs of four kinds is asked about lakes of random schemas, nulls, shard sizes and
row groups, at random batch sizes, by random methods and policies.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Job, prepare, score
from pipeline.model import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.model import LoadedModel

WIDTH = 3
WORDS = ["", "a", "bee", "Ü", "x" * 40]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.utils.set_random_seed(3)
    flag = keras.Input((), dtype="bool", name="flag")
    amount = keras.Input((1,), name="amount")
    word = keras.Input((1,), dtype="string", name="word")
    history = keras.Input((WIDTH,), name="history")
    known = keras.layers.StringLookup(vocabulary=WORDS[1:], output_mode="one_hot")(word)
    both = keras.layers.Concatenate()(
        [keras.layers.Rescaling(1e-3)(amount), known, keras.layers.Reshape((WIDTH,))(history)]
    )
    gate = keras.ops.expand_dims(keras.ops.cast(flag, "float32"), 1)
    out = {
        "score": keras.layers.Dense(1)(both) * (gate + 1.0),
        "classes": keras.layers.Dense(4, activation="softmax")(both),
    }
    keras.Model([flag, amount, word, history], out).save(path)
    return load(str(path))


AMOUNTS = [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.uint16()]
TEXTS = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
HISTORIES = [pa.list_(pa.float32()), pa.list_(pa.int16()), pa.list_(pa.float32(), WIDTH)]


@st.composite
def shards(draw: st.DrawFn) -> pa.Table:
    """A shard: its rows, some of them with a null or a list of another width."""
    rows = draw(st.integers(0, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    holes = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(seed)

    def nulls(share: float) -> Any:
        return rng.random(rows) < share

    history_type = draw(st.sampled_from(HISTORIES))
    width = rng.integers(0, 2 * WIDTH, rows) if rng.random() < 0.3 else np.full(rows, WIDTH)
    if pa.types.is_fixed_size_list(history_type):
        width[:] = WIDTH
    lists = [rng.integers(-9, 9, w).tolist() for w in width]
    return pa.table(
        {
            "row": pa.array(range(rows), pa.int64()),
            "amount": pa.array(
                rng.integers(0, 60_000, rows), mask=nulls(holes), type=pa.int64()
            ).cast(draw(st.sampled_from(AMOUNTS))),
            "word": pa.array(rng.choice(np.array(WORDS, object), rows), mask=nulls(holes)).cast(
                draw(st.sampled_from(TEXTS))
            ),
            "history": pa.array(
                [None if n else v for n, v in zip(nulls(holes / 2), lists, strict=True)],
                history_type,
            ),
            "flag": pa.array(rng.random(rows) < 0.5, mask=nulls(holes)),
            "kept": pa.array(rng.integers(0, 9, rows)).dictionary_encode(),
        }
    )


def sound(row: dict[str, Any]) -> bool:
    read = ("amount", "word", "history", "flag")
    return all(row[name] is not None for name in read) and len(row["history"]) == WIDTH


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    tables=st.lists(shards(), min_size=1, max_size=3),
    batch_size=st.integers(1, 40),
    small=st.sampled_from([0, 20, None]),
    policy=st.sampled_from(["null", "quarantine"]),
    method=st.sampled_from(["auto", "predict", "predict_step"]),
    group=st.integers(1, 70),
)
def test_each_row_has_one_outcome_in_its_place_and_the_value_that_predict_gives(
    model: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    tables: list[pa.Table],
    batch_size: int,
    small: int | None,
    policy: Any,
    method: Any,
    group: int,
) -> None:
    cached: Callable[..., LoadedModel] = lambda *_a, **_k: model  # noqa: E731
    monkeypatch.setattr(prepare, "load", cached)
    with tempfile.TemporaryDirectory() as folder:
        lake, out = Path(folder) / "lake", Path(folder) / "out"
        lake.mkdir()
        for i, table in enumerate(tables):
            pq.write_table(table, lake / f"{i}.parquet", row_group_size=group)
        report = score(
            Job(
                model=model.path,
                input=(str(lake),),
                output=str(out),
                allow_lossy=("amount",),
                batch_size=batch_size,
                small_shard_rows=small,
                on_bad_row=policy,
                method=method,
            )
        )
        assert report.error is None
        assert not report.failed
        assert report.counts.balanced
        assert report.counts.rows_in == sum(table.num_rows for table in tables)
        for i, table in enumerate(tables):
            check(model, table, out, f"{i}.parquet", policy)


def check(model: LoadedModel, table: pa.Table, out: Path, name: str, policy: str) -> None:
    rows = table.to_pylist()
    good = [row for row in rows if sound(row)]
    bad = [row["row"] for row in rows if not sound(row)]
    got = pq.read_table(out / name).to_pylist()
    if policy == "null":
        assert [row["row"] for row in got] == [row["row"] for row in rows]
        assert [r["row"] for r in got if r["bad_row_reason"] is not None] == bad
        assert all(row["score"] is None for row in got if row["bad_row_reason"] is not None)
        got = [row for row in got if row["bad_row_reason"] is None]
    else:
        letters = out / "_shardscore" / "quarantine" / name
        assert letters.exists() == bool(bad)
        if bad:
            assert pq.read_table(letters)["quarantine_row"].to_pylist() == bad
    assert [(row["row"], row["kept"]) for row in got] == [(r["row"], r["kept"]) for r in good]
    if good:
        wanted = model.keras.predict(
            [
                np.array([row["flag"] for row in good]),
                np.array([[row["amount"]] for row in good], "float32"),
                as_strings([[row["word"]] for row in good]),
                np.array([row["history"] for row in good], "float32"),
            ],
            verbose=0,
        )
        for key in ("score", "classes"):
            said = np.array([row[key] for row in got], "float32").reshape(wanted[key].shape)
            np.testing.assert_allclose(said, wanted[key], rtol=1e-5, atol=1e-5)


def as_strings(values: list[list[str]]) -> Any:
    import tensorflow as tf

    return tf.constant(values)
