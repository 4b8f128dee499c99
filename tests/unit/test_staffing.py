"""When workers are begun, and how many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import staffing, survey
from pipeline.capacity import Capacity, Machine
from pipeline.errors import BusyError
from pipeline.job import Job
from pipeline.report import latest
from pipeline.run import score
from pipeline.staffing import Staff
from tests.unit import outputs

if TYPE_CHECKING:
    from collections.abc import Callable

PLENTY = (100, 1 << 40)


class Pools:
    """Stands in for processes; keeps how many were asked for, and whether they have ended."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.ended = 0

    def __call__(self, count: int, threads: int) -> Pools:
        self.begun.append((count, threads))
        return self

    def __enter__(self) -> Pools:
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended += 1


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Pools:
    made = Pools()
    monkeypatch.setattr(staffing, "Pool", made)
    machine = Machine(cores=4.0, memory=64 << 30, card=False)
    monkeypatch.setattr(staffing, "this_machine", lambda: machine)
    return made


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    (tmp_path / "m.keras").write_bytes(b"a model")

    def make(**more: Any) -> Job:
        names = {"model": "m.keras", "output": "out"}
        paths = {name: str(tmp_path / path) for name, path in names.items()}
        return Job(**paths, input=(str(tmp_path / "lake"),), **more)

    return make


def last_run(tmp_path: Path, **said: Any) -> None:
    reports = tmp_path / "out/_shardscore/reports"
    reports.mkdir(parents=True)
    (reports / "1.json").write_text(json.dumps(said))


def test_workers_are_begun_when_work_is_expected_and_end_with_the_run(
    pools: Pools, job: Callable[..., Job]
) -> None:
    with Staff(job()) as staff:
        staff.expect(*PLENTY)
        staff.expect(1, 1)
        assert pools.begun == [(4, 1)]
    assert pools.ended == 1


def test_little_work_is_left_to_this_process(pools: Pools, job: Callable[..., Job]) -> None:
    with Staff(job()) as staff:
        staff.expect(100, 1000)
    assert pools.begun == []


def test_workers_end_with_a_run_that_fails(pools: Pools, job: Callable[..., Job]) -> None:
    def run() -> None:
        with Staff(job(workers=3, threads=2)) as staff:
            staff.expect(*PLENTY)
            raise ValueError("no run")

    with pytest.raises(ValueError, match="no run"):
        run()
    assert (pools.begun, pools.ended) == ([(3, 2)], 1)


@pytest.mark.parametrize(
    ("said", "begun"),
    [
        ({"state": "stopped", "threads": 2}, []),
        ({"state": "stopped", "threads": 1}, [(4, 1)]),
        ({"state": "stopped"}, [(4, 1)]),
        ({"state": "finished", "threads": 2}, [(4, 1)]),
    ],
)
def test_a_run_that_may_go_on_with_other_threads_waits_until_that_is_known(
    said: dict[str, Any],
    begun: list[tuple[int, int]],
    pools: Pools,
    job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    last_run(tmp_path, **said)
    with Staff(job()) as staff:
        staff.expect(*PLENTY)
    assert pools.begun == begun


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_ends_before_it_scores_tells_the_threads_that_the_next_one_is_to_take(
    workers: int, pools: Pools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staffing, "begin_import", lambda: None)
    monkeypatch.setattr(survey, "digest_model", lambda *_: outputs.IDENTITY.model_sha256)
    monkeypatch.setattr(survey, "disagreements", lambda *_: {})
    made = outputs.begin(tmp_path, {"a.parquet": outputs.rows(3), "b.parquet": outputs.rows(3)})
    (made.lake / "0.parquet").write_bytes(b"no Parquet file")
    (tmp_path / "m.keras").write_bytes(b"a model")
    job = Job(
        model=str(tmp_path / "m.keras"),
        input=(str(made.lake),),
        output=str(made.out),
        workers=workers,
        threads=3,
    )
    told = score(job, fail_fast=True)
    assert (told.state, told.threads) == ("incomplete", 3)
    kept = latest(made.storage)
    assert kept is not None
    assert (kept["workers"], kept["threads"]) == (workers, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_where_another_run_is_at_work_nothing_is_begun(
    workers: int, pools: Pools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports: list[bool] = []
    monkeypatch.setattr(staffing, "begin_import", lambda: imports.append(True))
    monkeypatch.setattr(survey, "digest_model", lambda *_: outputs.IDENTITY.model_sha256)
    made = outputs.begin(tmp_path, {"a.parquet": outputs.rows(3), "b.parquet": outputs.rows(3)})
    (made.out / "_shardscore/run.json").unlink()
    (tmp_path / "m.keras").write_bytes(b"a model")
    job = Job(
        model=str(tmp_path / "m.keras"),
        input=(str(made.lake),),
        output=str(made.out),
        workers=workers,
    )
    with made.storage.hold("run.lock"), pytest.raises(BusyError):
        score(job)
    assert (pools.begun, imports) == ([], [])


def test_what_was_decided_early_stays(pools: Pools, job: Callable[..., Job]) -> None:
    with Staff(job()) as staff:
        staff.expect(3, 1 << 40)
        surveyed: Any = None  # is not asked any more
        assert staff.capacity(surveyed) == Capacity(3, 1)
