"""Input that changes, vanishes or misbehaves while a run goes on; and long runs."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import rows, scorers, scoring, stream
from pipeline.errors import BadRowError, ChangedInputError, StorageError
from pipeline.job import Job
from pipeline.run import score
from pipeline.stop import Stop
from pipeline.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.records import Outcome, RunReport

COLUMNS = [f"f{i}" for i in range(4)]
FILES = Path("/proc/self/fd")
THREADS = Path("/proc/self/task")


class Watcher:
    """An observer that calls back when a shard is finished."""

    def __init__(self, finished: Callable[[Outcome], None] = lambda _: None) -> None:
        self.shard = finished

    def event(self, name: str, text: str, **facts: Any) -> None: ...

    def begin(self, *, rows: int, shards: int) -> None: ...

    def advance(self, rows: int) -> None: ...

    def standing(self, report: Any) -> None: ...

    def at_work(self, worker: int, shards: Any) -> None: ...

    def end(self) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    path = tmp_path_factory.mktemp("model") / "sum.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((4, 1), "float32")])
    model.save(path)
    return path


def put(path: Path, rows: int = 100, value: float = 1.0, hole: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [value] * rows for name in COLUMNS}
    if hole is not None:
        columns["f0"][hole] = None  # type: ignore[call-overload]
    table = pa.table({n: pa.array(v, pa.float32()) for n, v in columns.items()})
    pq.write_table(table, path)
    return path


def run(model: Path, folder: Path, watcher: Watcher | None = None, **more: Any) -> RunReport:
    chosen: dict[str, Any] = {"batch_size": 10, "features": ("f*",), **more}
    job = Job(model=str(model), input=(str(folder / "in"),), output=str(folder / "out"), **chosen)
    return score(job, watcher or Watcher(), Stop())


def predictions(folder: Path, name: str) -> list[float]:
    return pq.read_table(folder / "out" / name)["prediction"].to_pylist()


@pytest.mark.parametrize("vanish", [False, True], ids=["replaced", "deleted"])
def test_a_shard_swapped_before_its_turn_fails_alone_and_is_scored_next_time(
    vanish: bool, model: Path, tmp_path: Path
) -> None:
    put(tmp_path / "in" / "a.parquet")
    second = put(tmp_path / "in" / "b.parquet")
    put(tmp_path / "in" / "c.parquet")

    def swap(outcome: Outcome) -> None:
        if outcome.shard == "a.parquet":
            second.unlink()
            if not vanish:
                put(second, value=2.0)

    report = run(model, tmp_path, Watcher(swap), small_shard_rows=0)
    assert [outcome.shard for outcome in report.failed] == ["b.parquet"]
    assert isinstance(report.failed[0].error, ChangedInputError)
    assert not (tmp_path / "out" / "b.parquet").exists()
    assert predictions(tmp_path, "c.parquet") == [4.0] * 100
    put(second, value=2.0)
    assert run(model, tmp_path, small_shard_rows=0).state == "finished"
    assert predictions(tmp_path, "b.parquet") == [8.0] * 100


def test_a_shard_that_vanishes_from_a_group_does_not_take_the_others_along(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        put(tmp_path / "in" / f"{name}.parquet", rows=9)
    opened = LocalStorage.open_input

    def vanishing(self: LocalStorage, name: str) -> Any:
        if name == "b.parquet" and (tmp_path / "out" / "_shardscore" / "run.json").exists():
            (tmp_path / "in" / name).unlink(missing_ok=True)
        return opened(self, name)

    monkeypatch.setattr(LocalStorage, "open_input", vanishing)
    report = run(model, tmp_path)
    assert [outcome.shard for outcome in report.failed] == ["b.parquet"]
    assert predictions(tmp_path, "a.parquet") == predictions(tmp_path, "c.parquet") == [4.0] * 9


@pytest.mark.parametrize("small", [0, 1000], ids=["streamed", "grouped"])
def test_the_error_of_reading_is_never_lost_to_reading_ahead(
    small: int, model: Path, tmp_path: Path
) -> None:
    put(tmp_path / "in" / "a.parquet", rows=200, hole=64)
    for _ in range(10):
        report = run(model, tmp_path, small_shard_rows=small)
        (failed,) = report.failed
        assert isinstance(failed.error, BadRowError)
        assert (failed.error.row, failed.error.column) == (64, "f0")


def test_a_disk_that_fails_while_reading_ends_the_run_as_a_storage_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "in" / "a.parquet")
    real = rows._record_batches

    def failing(shard: Any, columns: Any, batch_size: int, start: int) -> Any:
        for i, batch in enumerate(real(shard, columns, batch_size, start)):
            # not the probe's reading
            if i == 3 and batch_size == 10:
                raise StorageError("the disk failed", path=shard.path)
            yield batch

    monkeypatch.setattr(rows, "_record_batches", failing)
    for _ in range(10):
        report = run(model, tmp_path, small_shard_rows=0)
        assert isinstance(report.error, StorageError)
        assert report.state == "broken"
        assert not list((tmp_path / "out").glob("*.parquet"))
        shutil.rmtree(tmp_path / "out")  # or the next run would go on behind the checkpoint


@pytest.mark.parametrize("small", [0, 1000], ids=["streamed", "grouped"])
def test_shards_that_fail_leave_nothing_behind(small: int, model: Path, tmp_path: Path) -> None:
    for i in range(30):
        put(tmp_path / "in" / f"{i:02}.parquet", rows=40, hole=39)
    threads: list[int] = []
    watcher = Watcher(lambda _: threads.append(len(list(THREADS.iterdir()))))
    report = run(model, tmp_path, watcher, small_shard_rows=small)
    assert len(report.failed) == 30
    # TensorFlow's own pools fill up at first; each failure held three more threads for ever.
    assert threads[-1] <= threads[9] + 5
    assert all(outcome.error.__traceback__ is None for outcome in report.failed if outcome.error)
    gc.collect()
    assert [o for o in gc.get_objects() if isinstance(o, stream.BatchStream)] == []


def test_one_bad_shard_of_a_group_is_scored_alone_and_the_others_stay_together(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(8):
        put(tmp_path / "in" / f"{i}.parquet", rows=5, hole=3 if i == 4 else None)
    calls: list[int] = []
    predict = scorers.call_packed
    monkeypatch.setattr(scorers, "call_packed", lambda *a: calls.append(1) or predict(*a))
    report = run(model, tmp_path, batch_size=100)
    assert [outcome.shard for outcome in report.failed] == ["4.parquet"]
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 7
    # For those before the shard at fault and for those behind it: where it is read there is no
    # call yet, neither in the group nor alone.
    assert len(calls) == 2


def test_many_bad_shards_in_a_group_cost_a_call_each_at_most(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        put(tmp_path / "in" / f"{i:02}.parquet", rows=5, hole=3 if i % 2 else None)
    reads: list[str] = []
    real = rows.read_batches

    def counted(shard: Any, *args: Any, **kwargs: Any) -> Any:
        reads.append(shard.name)
        return real(shard, *args, **kwargs)

    monkeypatch.setattr(scoring, "read_batches", counted)
    report = run(model, tmp_path, batch_size=100)
    assert len(report.failed) == 20
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 20
    # Each is read when the group fails at it, and once more in its own part.
    assert 40 <= len(reads) <= 3 * 40


@pytest.mark.slow
def test_a_run_over_many_shards_holds_no_more_files_and_streams_at_its_end(
    model: Path, tmp_path: Path
) -> None:
    for i in range(150):
        put(tmp_path / "in" / f"{i:03}.parquet", rows=25)
    open_files: list[int] = []
    watcher = Watcher(lambda _: open_files.append(len(list(FILES.iterdir()))))
    assert run(model, tmp_path, watcher, small_shard_rows=0).state == "finished"
    assert max(open_files[10:]) <= max(open_files[:10]) + 2
    gc.collect()
    alive = [o for o in gc.get_objects() if isinstance(o, stream.BatchStream)]
    assert len(alive) <= 1
    assert stream._open_streams == {}
