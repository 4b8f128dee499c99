"""What another run, or an older one, does at a bad moment costs no row and no mark."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.exit_codes import of_report
from pipeline.errors import StorageError
from pipeline.quarantine import DeadLetters
from pipeline.run import score
from pipeline.run_state import AtHand
from pipeline.stop import Stop
from pipeline.storage import LocalStorage, storage_at
from tests.faults.arithmetic import install
from tests.faults.lake import (
    GROUP_ROWS,
    Lake,
    Silent,
    assert_proven,
    begin,
    contents,
    ended,
    left_over,
    make_lake,
    score_here,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.storage import ObjectInfo


@pytest.fixture(autouse=True)
def _arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUP_ROWS", str(GROUP_ROWS))
    install(monkeypatch.setattr)


class StopAfter(Stop):
    """Asks to stop at the nth batch, or does something else there."""

    def __init__(self, batches: int, act: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._left = batches
        self._act = act

    def heed(self, grace: float = 0.0) -> None:
        if grace == 0:
            self._left -= 1
            if self._left == 0:
                self._act() if self._act else self.request(15)
        super().heed(grace)


def code(lake: Lake, output: object, stop: Stop | None = None, **more: Any) -> int:
    try:
        return int(of_report(score(lake.job(output, **more), Silent(), stop or Stop())))
    except StorageError:
        return 74


def write_again(lake: Lake, value: float) -> None:
    """A shard whose size and footer are the same whatever the value."""
    columns = {
        "id": pa.array(range(80), pa.int64()),
        "a": pa.array([value] * 80, pa.float32()),
        "b": pa.array([0.0] * 80, pa.float32()),
    }
    pq.write_table(
        pa.table(columns),
        lake.shards / "big.parquet",
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )


def sums(output: Path) -> set[float]:
    return set(pq.read_table(output / "big.parquet")["sum"].to_pylist())


def test_a_shard_that_is_written_again_between_two_runs_is_never_mixed(tmp_path: Path) -> None:
    lake = make_lake(tmp_path, {"big": (80, [])})
    write_again(lake, 1.0)
    assert code(lake, tmp_path / "out", StopAfter(6)) == 75
    write_again(lake, 2.0)
    assert code(lake, tmp_path / "out") == 0
    assert sums(tmp_path / "out") == {2.0}


def test_a_report_that_cannot_be_written_after_the_last_batch_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_lake(tmp_path, {"big": (25, [])}, every=1000.0)
    told = AtHand.batch_done

    def fails(self: AtHand, rows: int) -> None:
        told(self, rows)
        if rows == 1:  # the last batch is a short one
            raise StorageError("the report cannot be written")

    monkeypatch.setattr(AtHand, "batch_done", fails)
    assert code(lake, tmp_path / "out") == 74
    monkeypatch.setattr(AtHand, "batch_done", told)
    assert code(lake, tmp_path / "out") == 0
    assert_proven(LocalStorage(tmp_path / "out"))


def test_an_idle_run_marks_nothing_beside_a_run_at_work(tmp_path: Path) -> None:
    lake = make_lake(tmp_path, {"big": (80, [])})
    out = tmp_path / "out"
    write_again(lake, 1.0)
    assert code(lake, out) == 0
    write_again(lake, 2.0)

    def another_passes_by() -> None:
        passing = ended(begin(lake.arguments(out)))
        assert (passing.code, "nothing to do" in passing.out) == (0, True)
        assert not (out / "_SUCCESS").exists()
        assert list((out / "_shardscore" / "checkpoints").rglob("*.parquet")) != []

    assert code(lake, out, StopAfter(5, another_passes_by), rescore_changed=True) == 0
    assert sums(out) == {2.0}
    assert_proven(LocalStorage(out))


@pytest.mark.parametrize("bad", [[5], []], ids=["with bad rows", "without"])
def test_a_zombie_that_has_read_an_older_shard_leaves_the_dead_letters_alone(
    bad: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_lake(tmp_path, {"big": (40, [3])}, every=1000.0)
    output = f"memory://{tmp_path.name}"
    publish = DeadLetters.publish

    def replaced_by(version: str, rows: list[int]) -> None:
        shutil.rmtree(lake.shards)
        shutil.move(make_lake(tmp_path / version, {"big": (40, rows)}).shards, lake.shards)

    def dies(self: DeadLetters, note: Any, there: ObjectInfo | None) -> None:
        publish(self, note, there)
        raise KeyboardInterrupt

    monkeypatch.setattr(DeadLetters, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        score_here(lake.job(output))
    replaced_by("second", bad)

    def stalls(self: DeadLetters, note: Any, there: ObjectInfo | None) -> None:
        # Meanwhile a third version arrives, and a successor does all of it.
        monkeypatch.setattr(DeadLetters, "publish", publish)
        replaced_by("third", [7, 8, 9])
        assert code(lake, output) == 0
        publish(self, note, there)

    monkeypatch.setattr(DeadLetters, "publish", stalls)
    assert code(lake, output) == 65
    assert code(lake, output) == 0
    assert_proven(storage_at(output))


def test_a_dead_letter_file_that_is_lost_is_noticed_by_the_next_run(tmp_path: Path) -> None:
    lake = make_lake(tmp_path, {"big": (40, [3])})
    assert code(lake, tmp_path / "out") == 0
    (tmp_path / "out" / "_shardscore" / "quarantine" / "big.parquet").unlink()
    assert code(lake, tmp_path / "out") == 65


def test_a_shard_with_a_name_of_two_lines_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lake = make_lake(tmp_path, {"b\nig": (80, [3])})
    observer = Silent()
    assert code(lake, tmp_path / "out", StopAfter(5)) == 75
    assert score(lake.job(tmp_path / "out"), observer, Stop()).state == "finished"
    assert "resumed" in [event[0] for event in observer.events]
    assert left_over(LocalStorage(tmp_path / "out")) == []


def test_rows_and_files_that_come_and_go_do_not_disturb_a_listing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "out")
    storage.create("keep", b"")
    over = threading.Event()

    def comes_and_goes() -> None:
        number = 0
        while not over.is_set():
            storage.create(f"folder/{number}", b"x")
            storage.delete(f"folder/{number}")
            number += 1

    thread = threading.Thread(target=comes_and_goes)
    thread.start()
    try:
        for _ in range(2000):
            assert "keep" in [info.name for info in storage.list()]
    finally:
        over.set()
        thread.join()


def test_folders_that_others_empty_meanwhile_are_made_again(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "out")
    errors: list[StorageError] = []

    def publishes(mine: int) -> None:
        for number in range(150):
            try:
                storage.create(f"a/{mine}/b/{number}", b"x")
            except StorageError as error:
                errors.append(error)
            storage.delete(f"a/{mine}/b/{number}")

    threads = [threading.Thread(target=publishes, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(storage) == {}
