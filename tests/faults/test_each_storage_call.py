"""At each call that a run makes on its output's storage: failure, a lost response, death."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import survey
from pipeline.errors import StorageError
from pipeline.layout import frozen_name
from pipeline.run import score
from pipeline.spans import in_progress
from pipeline.stop import Stop
from pipeline.storage import LocalStorage
from pipeline.storage.memory import MemoryStorage
from tests.faults import arithmetic
from tests.faults.faulty import DeathError, Fault, FaultyStorage, install_locks
from tests.faults.lake import (
    GROUP_ROWS,
    Lake,
    Silent,
    assert_finished,
    assert_whole,
    contents,
    make_lake,
    score_here,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.storage import Storage
    from tests.faults.faulty import Mode

pytestmark = pytest.mark.faults

SHARDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "big": (29, (2, 9, 25)),
    "small-1": (5, ()),
    "small-2": (6, (1, 4)),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("lake"), SHARDS)


@pytest.fixture(autouse=True)
def _arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUP_ROWS", str(GROUP_ROWS))
    arithmetic.install(monkeypatch.setattr)


class Sweep:
    """Runs a job with a fault at each call in turn, and resumes it after each."""

    def __init__(
        self,
        lake: Lake,
        fresh: Callable[[int], Storage],
        monkeypatch: pytest.MonkeyPatch,
        **job: Any,
    ) -> None:
        self._lake = lake
        self._job = job
        self._fresh = fresh
        self._patch = monkeypatch
        self.survived: Counter[str] = Counter()
        self.unharmed: Counter[str] = Counter()
        whole = fresh(0)
        self._run_on(whole)
        self.reference = contents(whole)
        assert_finished(whole, self.reference)

    def __call__(self, mode: Mode) -> int:
        """Returns at how many calls there was a fault."""
        number = 0
        while True:
            number += 1
            fault = Fault(number, mode)
            storage = self._fresh(number)
            if not self._disturbed(storage, fault):
                return number - 1
            place = str(fault.place)
            try:
                assert_whole(storage, self.reference)
                self._run_on(storage)
                assert_finished(storage, self.reference)
            except BaseException as error:
                error.add_note(f"after a fault at call {number} ({mode}): {place}")
                raise
            self.survived[place.split()[0]] += 1

    def _disturbed(self, storage: Storage, fault: Fault) -> bool:
        """A run with a fault; whether the fault was met."""
        with self._patch.context() as patch:
            install_locks(fault, patch.setattr)
            patch.setattr(survey, "storage_at", lambda _address: FaultyStorage(storage, fault))
            try:
                report = score_here(self._lake.job(storage.url, **self._job))
                error: BaseException | None = report.error
                state = report.state
            except (StorageError, DeathError) as raised:
                error, state = raised, "broken"
        if fault.place is None:
            assert state == "finished"
            return False
        if fault.dead:
            assert isinstance(error, DeathError), f"outlived its death at {fault.place}"
        elif state == "finished":
            self.unharmed[fault.place.split()[0]] += 1
            published = {n for n in contents(storage) if not n.startswith("_")}
            assert published == {n for n in self.reference if not n.startswith("_")}
        else:
            assert isinstance(error, StorageError), f"{error!r} at {fault.place}"
            assert "by the test" in str(error), f"{error} at {fault.place}"
        return True

    def _run_on(self, storage: Storage) -> None:
        with self._patch.context() as patch:
            patch.setattr(survey, "storage_at", lambda _address: storage)
            report = score_here(self._lake.job(storage.url, **self._job))
        assert report.state == "finished", report.error


@pytest.mark.parametrize("mode", ["refuses", "loses", "dies_before", "dies_after"])
def test_a_fault_at_any_call_on_a_disk_costs_one_resume(
    mode: Mode, lake: Lake, quick_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(lake, lambda n: LocalStorage(quick_disk / str(n)), monkeypatch)
    faults = sweep(mode)
    print(f"{faults} faults survived: {dict(sweep.survived)}; no harm: {dict(sweep.unharmed)}")
    assert faults >= 60


@pytest.mark.parametrize("mode", ["refuses", "loses", "dies_before", "dies_after"])
def test_a_fault_at_any_call_of_a_run_that_freezes_its_plan_costs_one_resume(
    mode: Mode, lake: Lake, quick_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = {"plan_id": "a-job", "shard_index": 0, "shard_count": 1}
    sweep = Sweep(lake, lambda n: LocalStorage(quick_disk / str(n)), monkeypatch, **share)
    assert frozen_name("a-job") in sweep.reference
    faults = sweep(mode)
    print(f"{faults} faults survived: {dict(sweep.survived)}; no harm: {dict(sweep.unharmed)}")
    assert faults >= 60


class StopsAtACheckpoint(Silent):
    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self._stop = stop

    def event(self, name: str, text: str, **facts: Any) -> None:
        super().event(name, text, **facts)
        if name == "checkpoint":
            self._stop.request(signal.SIGTERM)


@pytest.mark.parametrize("mode", ["refuses", "dies_after"])
def test_a_fault_at_any_call_of_a_resume_costs_one_more(
    mode: Mode, lake: Lake, quick_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, whole, stop = quick_disk / "begun", quick_disk / "whole", Stop()
    assert score(lake.job(begun), StopsAtACheckpoint(stop), stop).state == "stopped"
    assert in_progress(LocalStorage(begun)) == {"big.parquet": 16}
    assert score_here(lake.job(whole)).state == "finished"

    def resumed(number: int) -> Storage:
        return LocalStorage(shutil.copytree(begun, quick_disk / str(number)))

    sweep = Sweep(lake, resumed, monkeypatch)
    assert sweep.reference == contents(LocalStorage(whole))
    faults = sweep(mode)
    print(f"{faults} faults survived: {dict(sweep.survived)}; no harm: {dict(sweep.unharmed)}")
    assert faults >= 60


@pytest.mark.parametrize("mode", ["refuses", "loses"])
def test_a_fault_at_any_call_on_an_object_store_costs_one_resume(
    mode: Mode, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(lake, lambda n: MemoryStorage(f"memory://{n}"), monkeypatch)
    faults = sweep(mode)
    print(f"{faults} faults survived: {dict(sweep.survived)}; no harm: {dict(sweep.unharmed)}")
    assert faults >= 60
