"""The manifest and _SUCCESS: when they are written, and what they say."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline import manifest
from pipeline.errors import CorruptShardError
from pipeline.published import take_inventory
from pipeline.storage import LocalStorage
from pipeline.storage.memory import MemoryStorage
from pipeline.threads import in_threads
from tests.unit.conftest import parquet_bytes
from tests.unit.outputs import IDENTITY, Made, begin, finished, note_for, rows, scored


def stored(made: Made) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((made.out / "_MANIFEST.json").read_bytes())
    return document


def test_the_manifest_says_what_the_footers_say(tmp_path: Path) -> None:
    made = finished(tmp_path)
    document = stored(made)
    shards = document.pop("shards")
    assert document == {
        "format": 1,
        "fingerprint": IDENTITY.fingerprint,
        "model_sha256": "a" * 64,
        "code_sha256": "c" * 64,
        "rows": {"rows_in": 20, "scored": 17, "null_scored": 0, "quarantined": 3},
    }
    assert [shard["name"] for shard in shards] == ["a.parquet", "b.parquet", "d=1/c.parquet"]
    first = shards[0]
    assert (first["rows_in"], first["scored"], first["quarantined"]) == (10, 7, 3)
    assert first["size"] == (made.out / "a.parquet").stat().st_size
    assert len(first["data_xxh3"]) == 32
    assert first["quarantine"]["name"] == "_shardscore/quarantine/a.parquet"
    assert first["quarantine"]["rows"] == 3
    assert "quarantine" not in shards[1]


def test_success_names_the_plan_and_the_digest_of_the_manifest(tmp_path: Path) -> None:
    made = finished(tmp_path)
    line = (made.out / "_SUCCESS").read_text()
    digest = hashlib.sha256((made.out / "_MANIFEST.json").read_bytes()).hexdigest()
    assert json.loads(line) == {"plan_id": made.plan_id, "manifest_sha256": digest}
    assert line.endswith("}\n")
    assert manifest.vouched(made.storage) == made.plan_id


def test_two_writers_write_the_same_bytes(tmp_path: Path) -> None:
    one, other = (finished(tmp_path / name) for name in ("one", "other"))
    for name in ("_MANIFEST.json", "_SUCCESS"):
        assert (one.out / name).read_bytes() == (other.out / name).read_bytes()


def test_nothing_is_marked_while_a_planned_shard_is_missing(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(4), "b.parquet": rows(4)})
    made.score("a.parquet")
    assert made.complete() is False
    assert not (made.out / "_MANIFEST.json").exists()
    made.score("b.parquet")
    assert made.complete() is True
    assert (made.out / "_SUCCESS").exists()


@pytest.mark.parametrize("name", ["a.parquet", "b.parquet"])
def test_nothing_is_marked_that_is_wrong(name: str, tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(4), "b.parquet": rows(4)})
    made.score("a.parquet", bad=[1])
    made.score("b.parquet")
    made.publish(name, scored(rows(2)), note_for(made.shards[name]))
    with pytest.raises(CorruptShardError) as caught:
        made.complete()
    assert (caught.value.path or "").endswith(name)
    assert caught.value.hint
    assert not (made.out / "_MANIFEST.json").exists()
    assert not (made.out / "_SUCCESS").exists()


def test_an_output_is_not_complete_while_a_shard_is_to_be_replaced(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(4)})
    made.score("a.parquet")
    (made.lake / "a.parquet").write_bytes(parquet_bytes(rows(5)))
    assert not made.complete()
    assert not (made.out / "_SUCCESS").exists()


def test_files_of_earlier_runs_are_listed_and_strays_are_not(tmp_path: Path) -> None:
    made = begin(tmp_path, {"a.parquet": rows(4), "b.parquet": rows(4)})
    made.score("a.parquet")
    made.score("b.parquet")
    (made.lake / "a.parquet").unlink()
    (made.out / "stray.parquet").write_bytes(parquet_bytes())
    (made.out / "torn.parquet").write_bytes(b"x")
    assert made.complete()
    assert [shard["name"] for shard in stored(made)["shards"]] == ["a.parquet", "b.parquet"]


def test_marks_that_are_right_are_not_written_again(tmp_path: Path) -> None:
    made = finished(tmp_path)
    paths = [made.out / "_MANIFEST.json", made.out / "_SUCCESS"]
    for path in paths:
        os.utime(path, ns=(0, 0))
    assert made.complete(idle=True)
    assert [path.stat().st_mtime_ns for path in paths] == [0, 0]


def test_who_has_published_writes_the_marks_whatever_they_say(tmp_path: Path) -> None:
    made = finished(tmp_path)
    paths = [made.out / "_MANIFEST.json", made.out / "_SUCCESS"]
    for path in paths:
        os.utime(path, ns=(0, 0))
    assert made.complete()
    assert 0 not in [path.stat().st_mtime_ns for path in paths]


@pytest.mark.parametrize("name", ["a.parquet", "_shardscore/quarantine/a.parquet"])
def test_marks_are_not_believed_where_a_file_is_gone(name: str, tmp_path: Path) -> None:
    made = finished(tmp_path)
    (made.out / name).unlink()
    with suppress(CorruptShardError):
        assert not made.complete(idle=True)


@pytest.mark.parametrize("name", ["_MANIFEST.json", "_SUCCESS"])
def test_a_mark_that_is_damaged_is_written_again(name: str, tmp_path: Path) -> None:
    made = finished(tmp_path)
    before = (made.out / name).read_bytes()
    (made.out / name).write_bytes(before[:-3])
    assert made.complete()
    assert (made.out / name).read_bytes() == before


def test_withdrawing_takes_success_away_first() -> None:
    class Watched(MemoryStorage):
        def __init__(self) -> None:
            super().__init__()
            self.deleted: list[str] = []

        def delete(self, name: str) -> None:
            self.deleted.append(name)
            super().delete(name)

    storage = Watched()
    manifest.write(storage, "plan", b"{}")
    manifest.withdraw(storage)
    assert storage.deleted == ["_SUCCESS", "_MANIFEST.json"]
    assert list(storage.list()) == []
    manifest.withdraw(storage)  # with nothing there it is no error


def test_the_manifest_is_written_before_success(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MemoryStorage):
        def replace(self, name: str, data: bytes) -> None:
            if name == "_SUCCESS":
                raise OSError
            super().replace(name, data)

    storage = Full()
    with pytest.raises(OSError):  # noqa: PT011 - it is ours, from above
        manifest.write(storage, "plan", b"{}")
    assert [info.name for info in storage.list()] == ["_MANIFEST.json"]
    assert manifest.vouched(storage) is None


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"5", b"{}", b"\xff", b'{"plan_id": "x"}', b"[" * 9999]
)
def test_a_success_that_vouches_for_nothing(line: bytes) -> None:
    storage = MemoryStorage()
    storage.create("_MANIFEST.json", b"{}")
    storage.create("_SUCCESS", line)
    assert manifest.vouched(storage) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"shards": [1]}', b'{"shards": 5}', b"[" * 9999]
)
def test_what_is_no_manifest_is_told_from_one_that_differs(data: bytes, tmp_path: Path) -> None:
    expected = (finished(tmp_path).out / "_MANIFEST.json").read_bytes()
    assert manifest.differences(data, expected) is None


def test_an_inventory_knows_each_kind_of_object(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    names = [
        "d=1/a.parquet",
        "_MANIFEST.json",
        "_SUCCESS",
        "_metadata",
        ".hidden/b.parquet",
        "_shardscore/run.json",
        "_shardscore/plans/0123.json",
        "_shardscore/reports/1.json",
        "_shardscore/quarantine/d=1/a.parquet",
        "_shardscore/checkpoints/d=1/a.parquet/000000000000-000000000008.0123456789abcdef0123456789abcdef.parquet",
        "_shardscore/checkpoints/d=1/a.parquet/000000000000-000000000008.0123456789abcdef0123456789abcdef.bad.parquet",
        "_shardscore/staging/host-1-0.tmp",
        "_shardscore/surprise",
    ]
    for name in names:
        storage.create(name, b"")
    found = take_inventory(storage)
    assert list(found.files) == ["d=1/a.parquet"]
    assert list(found.letters) == ["d=1/a.parquet"]
    assert list(found.pieces) == ["d=1/a.parquet"]
    assert sorted(found.pieces["d=1/a.parquet"]) == sorted(names[9:11])
    assert found.staged == ["_shardscore/staging/host-1-0.tmp"]
    assert found.plans == ["0123"]
    assert found.marks == {"_MANIFEST.json", "_SUCCESS"}
    assert found.strays == ["_shardscore/surprise"]


def test_only_a_few_items_are_under_way_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(100):
            taken.append(i)
            yield i

    results = in_threads(lambda i: 2 * i, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 9
    assert list(results) == [2 * i for i in range(1, 100)]


def test_an_error_in_a_thread_is_raised_in_its_place() -> None:
    results = in_threads(lambda i: 6 // i, [2, 0, 1], 2)
    assert next(results) == 3
    with pytest.raises(ZeroDivisionError):
        next(results)
