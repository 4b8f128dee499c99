"""Lakes on paper: a million shards of which nothing is stored, for the very code that a pod runs.

A paper lake is a storage. It lists as many shards as are wanted, and gives each the footer of a
Parquet file with as many rows as the shard is to have; rows it has none. How many rows a shard has
follows from the lake's address alone, so that each process sees the same lake:

    paper://SHARDS-ROWS-KIND/lake        the input
    paper-out://PUBLISHED/FOLDER         an output in a folder; what is published is paper too

KIND is `tail` (log-normal, as of files that are written by day and by customer), `giants` (the same
with twenty shards that are each bigger than a thousandth of all) or `even`.
"""

from __future__ import annotations

import functools
import io
from array import array
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import thrift
from pipeline.errors import NotFoundError
from pipeline.footer import digest_of
from pipeline.records import Shard
from pipeline.storage import LocalStorage, ObjectInfo
from pipeline.storage.base import fault_of
from pipeline.storage.locate import register

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 7
FOLDER_SHARDS = 1000
ROW_BYTES = 32
SIGMA = 1.6
"""Of the rows' logarithm: the biggest of a million shards has some 500 times the mean."""

GIANTS = 20
_NUM_ROWS, _ROW_GROUPS = 3, 4


@dataclass(frozen=True)
class PaperLake:
    """A lake on paper.

    Attributes:
        shards: How many it has.
        total: Rows of all together, nearly.
        kind: How they are spread: `tail`, `giants` or `even`.
    """

    shards: int
    total: int
    kind: str = "tail"

    @property
    def address(self) -> str:
        return f"paper://{self.shards}-{self.total}-{self.kind}/lake"

    def rows(self) -> array[int]:
        """Rows of each shard, in the order of the shards' names."""
        rng = np.random.default_rng(SEED)
        spread = (
            np.ones(self.shards) if self.kind == "even" else rng.lognormal(0, SIGMA, self.shards)
        )
        if self.kind == "giants":
            places = rng.choice(self.shards, GIANTS, replace=False)
            spread[places] = spread.sum() / 1000 * np.linspace(1, 5, GIANTS)
        exact = spread / spread.sum() * self.total
        # Three digits: so there are a few thousand footers in all.
        digits = 10.0 ** np.maximum(np.floor(np.log10(np.maximum(exact, 1))) - 2, 0)
        return array(
            "q", np.maximum(np.round(exact / digits) * digits, 1).astype(np.int64).tobytes()
        )

    def listed(self) -> Iterator[ObjectInfo]:
        """What a listing of it says, in order."""
        for place, rows in enumerate(self.rows()):
            yield ObjectInfo(name_of(place), _size(rows), 10**18, "1")

    def discovered(self) -> tuple[Shard, ...]:
        """Its shards as they are when their footers have been read."""
        schema = pq.read_schema(io.BytesIO(_real_file()))
        return tuple(
            Shard(
                name=name_of(place),
                root=self.address,
                key=name_of(place),
                size=_size(rows),
                mtime_ns=10**18,
                rows=rows,
                footer_sha256=digest_of(_footer(rows)),
                schema=schema,
                etag="1",
            )
            for place, rows in enumerate(self.rows())
        )


def name_of(place: int) -> str:
    return f"day={place // FOLDER_SHARDS:05}/part-{place:08}.parquet"


def place_of(name: str) -> int:
    return int(name.rpartition("-")[2].removesuffix(".parquet"))


class PaperInput:
    """The storage of a paper lake; of a folder that is none, nothing."""

    def __init__(self, address: str) -> None:
        self.url = address
        spec, _, folder = address.removeprefix("paper://").partition("/")
        shards, total, kind = spec.split("-")
        self._lake = PaperLake(int(shards), int(total), kind)
        self._is_there = folder == "lake"

    @functools.cached_property
    def _rows(self) -> array[int]:
        return self._lake.rows()

    def list(self, _prefix: str = "") -> Iterator[ObjectInfo]:
        return self._lake.listed() if self._is_there else iter(())

    def info(self, name: str) -> ObjectInfo:
        if not self._is_there:
            raise NotFoundError("no such object", path=f"{self.url}/{name}")
        return ObjectInfo(name, _size(self._rows[place_of(name)]), 10**18, "1")

    def open_input(self, name: str) -> pa.NativeFile:
        footer = _footer(self._rows[place_of(name)])
        return pa.BufferReader(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")

    def refuses(self, name: str) -> str | None:
        return fault_of(name)


class PaperOutput:
    """An output in a folder, where some shards of the lake are published: every second one of those
    that are not of the share PUBLISHED. The folder has a file that says which share each is of."""

    def __init__(self, address: str) -> None:
        share, _, folder = address.removeprefix("paper-out://").partition("/")
        self._stored = LocalStorage(f"/{folder}")
        self.url = address
        self._share = int(share)
        self._shares_of = Path(f"/{folder}.shares")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        stored = self._stored.list(prefix)
        if prefix:
            return stored
        return merge(stored, self._published(), key=lambda info: info.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)  # all but the listing is real

    def _published(self) -> Iterator[ObjectInfo]:
        shares = array("l")
        shares.frombytes(self._shares_of.read_bytes())
        for place, share in enumerate(shares):
            if place % 2 and share != self._share:
                yield ObjectInfo(name_of(place), 10_000, 2 * 10**18, "1")


def paper_output(folder: Path, shares: array[int], share: int) -> str:
    """The address of an output to which all but one share have published half of their shards."""
    folder.with_name(f"{folder.name}.shares").write_bytes(shares.tobytes())
    return f"paper-out://{share}{folder}"


def register_paper() -> None:
    register("paper", PaperInput)  # type: ignore[arg-type]
    register("paper-out", PaperOutput)  # type: ignore[arg-type]


def _size(rows: int) -> int:
    return 1000 + ROW_BYTES * rows


@functools.cache
def _footer(rows: int) -> bytes:
    """The footer of a Parquet file that says it has so many rows."""
    footer = _decoded()
    footer.put(_NUM_ROWS, rows)
    (group,) = footer.get(_ROW_GROUPS).values
    group.put(_NUM_ROWS, rows)
    return thrift.encode(footer)


def _decoded() -> Any:
    whole = _real_file()
    length = int.from_bytes(whole[-8:-4], "little")
    return thrift.decode(whole[-8 - length : -8])


@functools.cache
def _real_file() -> bytes:
    file = io.BytesIO()
    columns = {f"f{i}": pa.array([0.0], pa.float32()) for i in range(8)}
    pq.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    return file.getvalue()
