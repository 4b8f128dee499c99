"""Damaged and lying Parquet files: an error that names the file, or the right rows.

Never a crash, a hang, memory without bound, or a wrong row in silence. What nothing in a file can
tell is listed at the end. `HOSTILE_MUTATIONS=5000` tries more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline import thrift
from tests.conftest import environment
from tests.faults import hostile_parquet as hostile

pytestmark = pytest.mark.faults

CHUNK = 500
CHUNK_SECONDS = 90
PEAK_BYTES = 500 << 20
FINE = {"error", "right"}


def tried(folder: Path, first: int) -> list[dict[str, Any]]:
    """What came of some mutations; of those that a crash or a hang left out, nothing."""
    last = min(first + CHUNK, hostile.count())
    module = "tests.faults.hostile_parquet"
    with (folder / f"{first}.out").open("w+b") as out, (folder / f"{first}.err").open("w+b") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(first), str(last)],
            env=environment(),
            stdout=out,
            stderr=err,
        )
        try:
            ended = f"exit code {process.wait(CHUNK_SECONDS)}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = f"no end after {CHUNK_SECONDS} s"
        out.seek(0)
        err.seek(0)
        found: dict[int, dict[str, Any]] = {}
        for line in out:
            facts = json.loads(line)
            found.setdefault(facts["number"], {}).update(facts)
        said = err.read().decode(errors="replace")[-2000:]
    if len(found) < last - first or not all("came" in facts for facts in found.values()):
        last_begun = list(found.values())[-1:]
        pytest.fail(f"{ended} at {last_begun}\n{said}")
    return list(found.values())


def test_a_damaged_file_is_an_error_that_names_it_or_gives_the_right_rows(tmp_path: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chunks = pool.map(partial(tried, tmp_path), range(0, hostile.count(), CHUNK))
        results = [facts for chunk in chunks for facts in chunk]
    assert len(results) == hostile.count() >= 2000
    # Without checksums, nothing protects what is inside a page.
    bare = [
        facts
        for facts in results
        if facts["kind"] == "no checksums" and facts["in_pages"] and facts["came"] not in FINE
    ]
    assert [facts for facts in results if facts["came"] not in FINE and facts not in bare] == []
    assert max(facts["peak"] for facts in results) < PEAK_BYTES
    errors = sum(facts["came"] == "error" for facts in results)
    sys.stdout.write(
        f"{len(results)} files: {errors} errors, {len(results) - errors - len(bare)} read right, "
        f"{len(bare)} wrong inside pages without a checksum\n"
    )
    assert errors > len(results) // 2


def came(tmp_path: Path, kind: str, data: bytes) -> str:
    """What comes of reading a damaged file of some kind."""
    path = tmp_path / "hostile.parquet"
    path.write_bytes(data)
    return hostile.outcome(path, hostile.truth_of(hostile.sound_files()[kind]))


@pytest.mark.parametrize("kind", hostile.sound_files())
def test_a_sound_file_is_read_right(tmp_path: Path, kind: str) -> None:
    assert came(tmp_path, kind, hostile.sound_files()[kind]) == "right"


@pytest.mark.parametrize("what", hostile.LIES)
def test_a_footer_that_lies_is_an_error(tmp_path: Path, what: str) -> None:
    for kind in ("plain", "zstd"):
        data = hostile.told_otherwise(hostile.sound_files()[kind], hostile.LIES[what])
        assert came(tmp_path, kind, data) == "error"


@pytest.mark.parametrize("kind", ["plain", "pages of version 2"])
def test_each_bit_of_a_page_header_is_an_error_or_harmless(tmp_path: Path, kind: str) -> None:
    data = hostile.sound_files()[kind]
    at, body, _ = hostile.headers(data)[1]
    outcomes = {came(tmp_path, kind, hostile.flipped(data, bit)) for bit in range(at * 8, body * 8)}
    assert outcomes == {"error", "right"}


# What nothing tells. A case that is found out some day leaves this list.


def test_without_checksums_a_flip_inside_a_page_cannot_be_told(tmp_path: Path) -> None:
    data = hostile.sound_files()["no checksums"]
    _, body, end = hostile.headers(data)[0]
    outcome = came(tmp_path, "no checksums", hostile.flipped(data, (body + end) * 4))
    assert outcome == "wrong: values of x"


def test_pages_of_one_size_that_are_swapped_with_their_headers_cannot_be_told(
    tmp_path: Path,
) -> None:
    kind = "no nulls"
    data = hostile.sound_files()[kind]
    pages = hostile.headers(data)
    first, second, end = next(
        (at, after, end)
        for (at, _, after), (_, _, end) in pairwise(pages)
        if after - at == end - after
    )
    swapped = data[:first] + data[second:end] + data[first:second] + data[end:]
    assert came(tmp_path, kind, swapped) == "wrong: values of x"


def test_integers_that_the_arrow_schema_calls_durations_cannot_be_told(tmp_path: Path) -> None:
    data = hostile.sound_files()["plain"]
    start = hostile.footer_start(data)
    wrong = [
        outcome
        for bit in range(data.index(b"ARROW:schema", start) * 8, (len(data) - 8) * 8)
        if (outcome := came(tmp_path, "plain", hostile.flipped(data, bit))) not in FINE
    ]
    # Both are stored as plain 64-bit integers: one bit of the schema's type makes one the other.
    assert wrong == ["wrong: columns 'x: float\\nid: duration[s]'"]


def test_without_an_arrow_schema_texts_that_lose_both_marks_of_it_cannot_be_told(
    tmp_path: Path,
) -> None:
    def untyped(footer: thrift.Struct) -> None:
        name = footer.get(hostile.FILE_SCHEMA).values[3]
        name.fields = [field for field in name.fields if field.number not in {6, 10}]

    kind = "no Arrow schema"
    data = hostile.told_otherwise(hostile.sound_files()[kind], untyped)
    assert came(tmp_path, kind, data).endswith(r"name: binary'")
