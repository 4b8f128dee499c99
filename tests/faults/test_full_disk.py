"""A disk that is full, for real: a small file system in memory, mounted by the test."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pipeline.spans import in_progress
from pipeline.storage import LocalStorage
from tests.faults.forks import Forks
from tests.faults.lake import REPORTS, assert_finished, assert_whole, contents, make_lake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Finished

pytestmark = pytest.mark.faults

KIB = 1024
PAGE = 4 * KIB
BATCH = 512
ROWS = 6 * BATCH


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes on a folder. Only root may do this."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: object) -> None:
    done = subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"this test mounts a file system, as root: {done.stderr}"


def used(folder: Path) -> int:
    stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


def assert_told(run: Finished, output: Path) -> None:
    assert run.code == 74, run.err
    assert "No space left on device" in run.err
    assert f"file:     {output}" in run.err
    assert "make room on the disk, then run again" in run.err


def test_a_disk_of_any_size_is_filled_cleanly_and_with_more_room_the_run_goes_on(
    tmp_path: Path,
) -> None:
    lake = make_lake(
        tmp_path / "lake", {"big": (ROWS, range(3, ROWS, 50)), "small": (9, (4,))}, batch_size=BATCH
    )
    disk = tmp_path / "disk"
    output = disk / "out"
    arguments = lake.arguments(output, "--quiet")
    met: Counter[str] = Counter()
    with Forks(tmp_path, lake.arguments(tmp_path / "first", "--quiet"), GROUP_ROWS="300") as forks:
        with mounted(disk, 64 << 20):
            assert forks.run(arguments).code == 0
            reference = contents(LocalStorage(output))
        size = PAGE
        while True:
            size += PAGE
            with mounted(disk, size):
                run = forks.run(arguments)
                if run.code == 0:
                    break
                assert_told(run, output)
                assert_whole(output, reference)
                met[phase(output)] += 1
                mount("-o", f"remount,size={64 << 20}", disk)
                resumed = forks.run(arguments)
                assert resumed.code == 0, resumed.err
                assert_finished(output, reference)
    print(f"{met.total()} full disks survived, up to {size // KIB} KiB: {dict(met)}")
    assert met.keys() >= {"beginning", "checkpoints", "joining"}
    assert met.total() >= 20


def phase(output: Path) -> str:
    """How far a run had come when the disk was full."""
    saved = in_progress(LocalStorage(output)).get("big.parquet", 0)
    if (output / "big.parquet").exists():
        return "after the big shard"
    if not saved:
        return "beginning"
    # The last batch is never saved: it is joined to what was.
    return "joining" if saved >= ROWS - BATCH else "checkpoints"


def test_a_report_that_does_not_fit_is_said_and_all_is_published(tmp_path: Path) -> None:
    # The report tells of each shard: in the end it is what needs the most room at once.
    lake = make_lake(tmp_path / "lake", {f"small-{i:03}": (2, ()) for i in range(200)})
    disk = tmp_path / "disk"
    output = disk / "out"
    arguments = lake.arguments(output, "--quiet")
    with Forks(tmp_path, lake.arguments(tmp_path / "first", "--quiet")) as forks:
        with mounted(disk, 64 << 20):
            assert forks.run(arguments).code == 0
            reference = contents(LocalStorage(output))
            full = used(disk)
        with mounted(disk, full - 2 * PAGE):
            run = forks.run(arguments)
            assert_told(run, output)
            assert f"{output}/{REPORTS}" in run.err
            assert contents(LocalStorage(output)) == reference
            mount("-o", f"remount,size={64 << 20}", disk)
            assert forks.run(arguments).code == 0
            assert_finished(output, reference)
