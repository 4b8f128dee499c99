"""Locks between runs on a local disk: one holder, who is named, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import BusyError, StorageError
from pipeline.storage import LocalStorage
from pipeline.storage.local import LOCKS

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from pipeline.storage import LocalStorage
with LocalStorage(sys.argv[1]).hold(sys.argv[3], shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def output(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "out")


@contextmanager
def another_process(
    output: LocalStorage, kind: str = "alone", name: str = "run.lock"
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its block is left."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, output.url, kind, name],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_who_comes_second_is_told_who_was_first(output: LocalStorage) -> None:
    with another_process(output) as holder:
        with pytest.raises(BusyError) as caught, output.hold("run.lock"):
            pass
        assert f"process {holder.pid} on " in (caught.value.received or "")
        assert caught.value.path == f"{output.url}/{LOCKS}/run.lock"


def test_who_shares_is_refused_by_who_does_not_and_the_other_way_round(
    output: LocalStorage,
) -> None:
    with another_process(output), pytest.raises(BusyError), output.hold("run.lock", shared=True):
        pass
    with another_process(output, "shared"):
        with pytest.raises(BusyError) as caught, output.hold("run.lock"):
            pass
        assert "a share" in (caught.value.received or "")


def test_who_holds_a_share_is_named_but_not_who_was_killed_with_one(output: LocalStorage) -> None:
    locks = Path(output.url) / LOCKS
    with (
        output.hold("run.lock", shared=True),
        another_process(output, name="index-1.lock") as share,
    ):
        (locks / "index-0.lock").write_text('{"pid": 1, "host": "dead", "since": "long ago"}')
        with pytest.raises(BusyError) as caught, output.hold("run.lock"):
            pass
        told = caught.value.received or ""
        assert f"a run that has a share of it, process {share.pid} on " in told
        assert "dead" not in told


def test_those_who_share_hold_it_together(output: LocalStorage) -> None:
    with another_process(output, "shared"), output.hold("run.lock", shared=True):
        assert (Path(output.url) / LOCKS / "run.lock").exists()


def test_a_lock_that_one_has_left_is_still_held_by_the_others_who_share_it(
    output: LocalStorage,
) -> None:
    with another_process(output, "shared"):
        with output.hold("run.lock", shared=True):
            pass
        with pytest.raises(BusyError), output.hold("run.lock"):
            pass


def test_other_names_are_other_locks(output: LocalStorage) -> None:
    with another_process(output), output.hold("index-0.lock"):
        pass


def test_a_killed_holder_holds_nothing(output: LocalStorage) -> None:
    with another_process(output) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with output.hold("run.lock"):
            pass


def test_nothing_is_left_of_a_lock_or_of_the_folders_made_for_it(
    output: LocalStorage, tmp_path: Path
) -> None:
    with output.hold("run.lock"):
        assert list(tmp_path.iterdir()) == [Path(output.url)]
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_or_hold_something_stay(output: LocalStorage) -> None:
    Path(output.url).mkdir()
    with output.hold("run.lock"):
        pass
    assert list(Path(output.url).iterdir()) == []
    with output.hold("run.lock"):
        output.create("_shardscore/run.json", b"")
    assert [info.name for info in output.list()] == ["_shardscore/run.json"]


def test_a_lock_that_cannot_be_made_is_a_storage_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught, LocalStorage(tmp_path / "file").hold("run.lock"):
        pass
    assert str(tmp_path / "file") in (caught.value.path or "")


def test_a_lock_is_never_made_through_a_link(output: LocalStorage, tmp_path: Path) -> None:
    locks = Path(output.url) / LOCKS
    locks.mkdir(parents=True)
    (locks / "run.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError), output.hold("run.lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
