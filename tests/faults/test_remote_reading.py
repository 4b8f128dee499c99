"""Reading shards from a real S3 server: bounded memory, an early first batch, one version."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.binding import check
from pipeline.discover import discover
from pipeline.errors import ChangedInputError, StorageError, UnavailableError
from pipeline.records import Batch, Shard
from pipeline.rows import read_batches
from pipeline.signature import InputSpec, Signature
from pipeline.storage import storage_at
from pipeline.storage.object_reader import ObjectReader
from tests.conftest import environment
from tests.services import SeaweedServer

COLUMNS = [f"f{number}" for number in range(32)]
GROUP = 200_000
SCHEMA = pa.schema([(name, pa.float32()) for name in COLUMNS])


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table([rng.random(rows, np.float32) for _ in COLUMNS], schema=SCHEMA)


def put_shard(root: str, rows: int, group: int = GROUP, seed: int = 0) -> Shard:
    with storage_at(root).stage("a.parquet") as staged:
        with pq.ParquetWriter(
            staged.path, SCHEMA, use_dictionary=False, compression="none"
        ) as writer:
            for start in range(0, rows, group):
                part = table(min(group, rows - start), seed + start)
                writer.write_table(part, row_group_size=group)
        staged.replace()
    (shard,) = discover([root], "/none").shards
    return shard


def batches(shard: Shard, columns: int = 32, size: int = 8192, start: int = 0) -> Iterator[Batch]:
    signature = Signature((InputSpec("x", (columns,), "float32"),), "tensor", (), custom_step=False)
    binding = check(signature, {"x": tuple(COLUMNS[:columns])}, shard.schema)
    return read_batches(shard, binding, [], size, fail_on_bad=True, start=start)


@pytest.mark.parametrize("group", [700, 20_000])
@pytest.mark.parametrize(("columns", "start"), [(32, 0), (3, 0), (32, 16_384)])
def test_a_remote_shard_gives_the_rows_that_it_holds(
    s3: str, group: int, columns: int, start: int
) -> None:
    shard = put_shard(s3, 50_000, group)
    with storage_at(s3).open_input("a.parquet") as file, pq.ParquetFile(file) as parquet:
        truth = parquet.read()
    read = np.concatenate([batch.features[0] for batch in batches(shard, columns, start=start)])
    wanted = np.stack([truth[name].to_numpy() for name in COLUMNS[:columns]], axis=1)[start:]
    np.testing.assert_array_equal(read, wanted)


def test_the_first_batch_comes_after_a_few_megabytes(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = put_shard(s3, 1_000_000)
    assert shard.size > 100e6
    asked: list[int] = []
    fetched = ObjectReader._fetched

    def counted(self: ObjectReader, start: int, end: int) -> bytes:
        asked.append(end - start)
        return fetched(self, start, end)

    monkeypatch.setattr(ObjectReader, "_fetched", counted)
    reading = batches(shard)
    next(reading)
    assert sum(asked) < 25e6
    for _ in reading:
        pass
    assert sum(asked) < 1.05 * shard.size
    reading.close()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that are asked for, beyond what comes with opening a shard."""
    asked: list[tuple[int, int]] = []
    fetched = ObjectReader._fetched

    def noted(self: ObjectReader, start: int, end: int) -> bytes:
        asked.append((start, end))
        return fetched(self, start, end)

    monkeypatch.setattr(ObjectReader, "_fetched", noted)
    return asked


@pytest.mark.parametrize(
    ("rows", "group", "columns", "most"),
    [
        (1_000_000, 1_000_000, 32, 5 * 32),  # 128 MB, side by side: 4 MB a column
        (1_000_000, 1_000_000, 2, 4),
        (400_000, 40_000, 32, 10),  # row groups of 5 MB
        (400_000, 4_000, 32, 8),  # and of 500 KB, several in a request
        (400_000, 4_000, 1, 101),  # of which little is wanted
    ],
)
def test_a_shard_is_read_by_few_requests_and_no_byte_of_it_twice(
    s3: str, requests: list[tuple[int, int]], rows: int, group: int, columns: int, most: int
) -> None:
    shard = put_shard(s3, rows, group)
    requests.clear()
    assert sum(batch.rows for batch in batches(shard, columns, 16_384)) == rows
    assert len(requests) <= most
    wanted = shard.size * columns // 32
    assert sum(end - start for start, end in requests) < 1.02 * wanted + 300_000
    requests.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(requests))


def test_a_shard_that_is_taken_up_in_its_middle_fetches_only_what_it_reads(
    s3: str, requests: list[tuple[int, int]]
) -> None:
    shard = put_shard(s3, 400_000, 50_000)
    requests.clear()
    start = 16 * 16_384  # in the sixth of eight row groups
    assert sum(batch.rows for batch in batches(shard, 32, 16_384, start)) == 400_000 - start
    assert sum(end - begin for begin, end in requests) < 0.4 * shard.size


READ = """
from pipeline.memory import share_one_heap
share_one_heap()  # as each run does
import sys
from pathlib import Path
from tests.faults.test_remote_reading import batches
from pipeline.discover import discover

def kib(field):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(field + ":")[2].split()[0])

(shard,) = discover([sys.argv[1]], "/none").shards
before, rows = kib("VmRSS"), 0
for batch in batches(shard):
    rows += batch.rows
print(rows, shard.size, (kib("VmHWM") - before) * 1024)
"""


def grown_by_reading(root: str, server: SeaweedServer) -> int:
    """Peak bytes of a process that reads a shard of 300 MB, above what it held before."""
    done = subprocess.run(
        [sys.executable, "-c", READ, root],
        env=environment(**server.environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows, size, grown = map(int, done.stdout.split())
    assert (rows, size > 300e6) == (2_400_000, True)
    return grown


@pytest.mark.slow
def test_reading_300_megabytes_takes_little_more_memory_than_on_a_disk(
    s3: str, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    for root in (s3, str(tmp_path)):
        put_shard(root, 2_400_000, 800_000)
    on_disk = grown_by_reading(str(tmp_path), s3_server)
    assert grown_by_reading(s3, s3_server) < on_disk + 60e6


@pytest.mark.parametrize("change", ["another", "none"])
def test_a_shard_that_changes_while_it_is_read_is_a_changed_input(s3: str, change: str) -> None:
    shard = put_shard(s3, 400_000)
    reading = batches(shard)
    next(reading)
    if change == "another":
        put_shard(s3, 400_000, seed=1)
    else:
        storage_at(s3).delete("a.parquet")
    with pytest.raises(ChangedInputError) as caught:
        for _ in reading:
            pass
    assert caught.value.path == f"{s3}/a.parquet"


def test_a_shard_that_was_replaced_before_it_was_opened_is_a_changed_input(s3: str) -> None:
    shard = put_shard(s3, 1000)
    put_shard(s3, 1000, seed=1)
    with pytest.raises(ChangedInputError):
        next(batches(shard))


@pytest.mark.parametrize("error", [StorageError("access is denied"), KeyboardInterrupt()])
def test_an_error_below_the_reader_comes_out_as_itself(
    s3: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    shard = put_shard(s3, 200_000)
    fetched, broken = ObjectReader._fetched, threading.Event()

    def breaking(self: ObjectReader, start: int, end: int) -> bytes:
        if broken.is_set():
            raise error
        return fetched(self, start, end)

    monkeypatch.setattr(ObjectReader, "_fetched", breaking)
    reading = batches(shard)
    next(reading)
    broken.set()
    with pytest.raises(type(error)) as caught:
        for _ in reading:
            pass
    assert caught.value is error


@pytest.mark.parametrize(
    ("rows", "group", "every", "least"), [(400_000, 200_000, 7, 14), (200_000, 20_000, 2, 6)]
)
def test_a_failed_request_in_the_middle_is_asked_again_and_the_rows_are_right(
    s3: str, monkeypatch: pytest.MonkeyPatch, rows: int, group: int, every: int, least: int
) -> None:
    shard = put_shard(s3, rows, group)
    truth = np.concatenate([batch.features[0] for batch in batches(shard)])
    fetched, calls = ObjectReader._fetched, [0]

    def shaky(self: ObjectReader, start: int, end: int) -> bytes:
        calls[0] += 1
        if calls[0] % every == 0:
            raise UnavailableError("no answer")
        return fetched(self, start, end)

    monkeypatch.setattr(ObjectReader, "_fetched", shaky)
    read = np.concatenate([batch.features[0] for batch in batches(shard)])
    np.testing.assert_array_equal(read, truth)
    assert calls[0] > least
