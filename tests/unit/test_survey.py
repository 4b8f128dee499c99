"""The survey: what is opened to know how shards stand, when TensorFlow's import may begin, and how
much memory a shard takes."""

from __future__ import annotations

import hashlib
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import discover, survey
from pipeline.errors import OutputMismatchError
from pipeline.footer import digest_of, read_footer_bytes
from pipeline.storage import LocalStorage
from tests.unit.outputs import IDENTITY, Made, begin, finished, rows

MOST_BYTES = 1024
"""Of a shard that is planned."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Parquet files that are opened, by their paths."""
    found: list[str] = []
    open_input = LocalStorage.open_input

    def counted(self: LocalStorage, name: str) -> Any:
        if name.endswith(".parquet"):
            found.append(f"{self.url}/{name}")
        return open_input(self, name)

    monkeypatch.setattr(LocalStorage, "open_input", counted)
    return found


def named(found: survey.Survey) -> dict[str, list[str]]:
    at = found.standing
    groups = {"done": at.done, "pending": at.pending, "changed": at.changed}
    return {name: [shard.name for shard in group] for name, group in groups.items() if group}


# TensorFlow's import


def test_work_is_told_of_before_the_other_footers_are_read(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], opened: list[str]
) -> None:
    made = begin(tmp_path, {f"{i:03}.parquet": rows(3) for i in range(50)})
    opened.clear()
    told: list[int] = []
    surveyed(made, lambda *_: told.append(len(opened)))
    assert told[0] == 1
    assert len(opened) >= 50


def test_with_all_published_no_work_is_told_of(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    surveyed(finished(tmp_path), pytest.fail)


def test_a_shard_that_cannot_be_read_is_no_work(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    (made.lake / "damaged.parquet").write_bytes(b"no Parquet file")
    found = surveyed(made, pytest.fail)
    assert [failed.name for failed in found.unreadable] == ["damaged.parquet"]


def test_a_shard_to_be_scored_again_is_work(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    (made.lake / "b.parquet").touch()
    told: list[bool] = []
    found = surveyed(made, lambda *_: told.append(True), rescore_changed=True)
    assert told
    assert named(found) == {"done": ["a.parquet", "d=1/c.parquet"], "pending": ["b.parquet"]}


# What is opened


def test_of_a_complete_output_no_published_file_is_opened(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], opened: list[str]
) -> None:
    made = finished(tmp_path)
    opened.clear()
    found = surveyed(made)
    assert named(found) == {"done": ["a.parquet", "b.parquet", "d=1/c.parquet"]}
    assert sorted(opened) == [f"{made.lake}/{shard.name}" for shard in found.standing.done]


def test_without_its_marks_each_published_file_is_asked_once(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], opened: list[str]
) -> None:
    made = finished(tmp_path)
    (made.out / "_SUCCESS").unlink()
    opened.clear()
    found = surveyed(made)
    names = [shard.name for shard in found.standing.done]
    assert len(names) == 3
    both = [f"{folder}/{name}" for folder in (made.lake, made.out) for name in names]
    assert sorted(opened) == sorted(both)


def test_a_shard_that_is_done_has_its_rows_and_identity_without_a_schema(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finished(tmp_path)
    known = made.shards
    monkeypatch.setattr(discover, "parsed", pytest.fail)
    for shard in surveyed(made).standing.done:
        assert shard.identity == known[shard.name].identity
        assert shard.schema is None


def test_a_published_file_that_was_put_there_since_is_asked_however_old_it_says_it_is(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    path = made.out / "b.parquet"
    before = path.stat()
    other = path.read_bytes().replace(IDENTITY.fingerprint.encode(), b"0" * 64)
    time.sleep(0.02)  # a disk's clock ticks in milliseconds
    (made.out / "_other").write_bytes(other)
    os.utime(made.out / "_other", ns=(before.st_atime_ns, before.st_mtime_ns))
    (made.out / "_other").rename(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(OutputMismatchError):
        surveyed(made)


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_or_a_link_put_in_the_place_of_published_files_is_asked_though_they_are_older(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], *, link: bool
) -> None:
    """Nothing of the files themselves is changed when what leads to them is."""
    made = finished(tmp_path)
    path = made.out / ("b.parquet" if link else "d=1/c.parquet")
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    other.write_bytes(path.read_bytes().replace(IDENTITY.fingerprint.encode(), b"0" * 64))
    time.sleep(0.02)  # a disk's clock ticks in milliseconds
    marks = {name: (made.out / name).read_bytes() for name in ("_MANIFEST.json", "_SUCCESS")}
    for name, data in marks.items():
        (made.out / name).write_bytes(data)  # younger than what is put in place
    time.sleep(0.02)
    path.unlink()
    if link:
        path.symlink_to(other)
    else:
        path.parent.rmdir()
        other.parent.rename(path.parent)
    with pytest.raises(OutputMismatchError):
        surveyed(made)


def test_a_shard_that_has_changed_under_the_marks_is_found(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    old = (made.lake / "b.parquet").stat()
    content = (made.lake / "b.parquet").read_bytes()
    footer = read_footer_bytes(LocalStorage(made.lake), "b.parquet")
    changed = content.replace(footer, footer.replace(b"parquet-cpp", b"parquet-cqq"))
    (made.lake / "b.parquet").write_bytes(changed)
    os.utime(made.lake / "b.parquet", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert named(surveyed(made))["changed"] == ["b.parquet"]


def test_shards_that_are_new_beside_a_complete_output_are_pending(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    for name in ("0.parquet", "c.parquet", "z.parquet"):
        (made.lake / name).write_bytes((made.lake / "b.parquet").read_bytes())
    assert named(surveyed(made)) == {
        "done": ["a.parquet", "b.parquet", "d=1/c.parquet"],
        "pending": ["0.parquet", "c.parquet", "z.parquet"],
    }


@pytest.mark.parametrize("document", ["_MANIFEST.json", "_SUCCESS", "plan"])
@pytest.mark.parametrize("damage", [b"", b"{", b'"shards": [\n{"name":1}\n]}', b"\xff" * 99])
def test_marks_and_plans_that_are_damaged_prove_nothing_and_hinder_nobody(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], document: str, damage: bytes
) -> None:
    made = finished(tmp_path)
    plan = made.out / f"_shardscore/plans/{made.plan_id}.json"
    (plan if document == "plan" else made.out / document).write_bytes(damage)
    assert named(surveyed(made)) == {"done": ["a.parquet", "b.parquet", "d=1/c.parquet"]}


def test_a_plan_whose_bytes_are_not_those_it_is_named_for_proves_nothing(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    footer = read_footer_bytes(LocalStorage(made.lake), "b.parquet")
    other = footer.replace(b"parquet-cpp", b"parquet-cqq")
    shard = made.lake / "b.parquet"
    shard.write_bytes(shard.read_bytes().replace(footer, other))
    plan = made.out / f"_shardscore/plans/{made.plan_id}.json"
    names = [hashlib.sha256(bytes_).hexdigest().encode() for bytes_ in (footer, other)]
    assert names[0] in plan.read_bytes()
    plan.write_bytes(plan.read_bytes().replace(*names))  # as if it had been scored as it is now
    assert named(surveyed(made))["changed"] == ["b.parquet"]


def test_files_of_the_output_that_are_of_no_shard_are_counted(
    tmp_path: Path, surveyed: Callable[..., survey.Survey]
) -> None:
    made = finished(tmp_path)
    (made.lake / "b.parquet").unlink()
    assert surveyed(made).other_files == 1


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False])
def test_a_planned_shard_takes_less_than_a_kibibyte(
    tmp_path: Path, surveyed: Callable[..., survey.Survey], marked: bool
) -> None:
    surveyed(finished(tmp_path / "small"))  # what is imported or cached once is no shard's
    shards = 12_000  # so many share what a run needs for itself, and for a chunk
    made = begin(tmp_path / "big", {name_of(0): rows(3)})
    made.score(name_of(0))
    source, published = (made.lake / name_of(0)), (made.out / name_of(0)).read_bytes()
    for i in range(1, shards):
        shard, file = made.lake / name_of(i), made.out / name_of(i)
        if not shard.parent.exists():
            shard.parent.mkdir()
            file.parent.mkdir()
        os.link(source, shard)
        file.write_bytes(published.replace(name_of(0).encode(), name_of(i).encode()))
    if marked:
        from pipeline import ledger

        made = Made(made.folder, ledger.freeze_plan(made.storage, made.shards.values()))
        assert made.complete()
    tracemalloc.start()
    try:
        found = surveyed(made)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.standing.done) == shards
    assert peak / shards < MOST_BYTES


def name_of(number: int) -> str:
    """The name of a shard in a hive folder; all are of one length."""
    return f"day={number // 1000:04}/part-{number:07}.parquet"


def test_a_shards_digest_is_that_of_its_footer(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(3)})
    footer = read_footer_bytes(LocalStorage(made.lake), "a.parquet")
    assert digest_of(footer) == hashlib.sha256(footer).hexdigest()
    assert made.shards["a.parquet"].footer_sha256 == digest_of(footer)
