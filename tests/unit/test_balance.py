"""Shares of a big lake: complete, disjoint, and as even as longest-first makes them."""

from __future__ import annotations

import tracemalloc
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import frozen, survey
from pipeline.discover import Discovery
from pipeline.job import Job
from pipeline.shard_list import ShardList
from pipeline.shares import Balance, assigned, balance, share
from pipeline.storage import LocalStorage
from pipeline.storage.locate import _factories
from pipeline.tables import plan_text
from tests.bench.paper import PaperLake, name_of, paper_output, place_of, register_paper
from tests.bench.scale import oracle
from tests.unit.conftest import shard

SHARES = 1000
MOST_BYTES = 1024
"""Of a shard that is planned."""

LAKES = {
    "a long tail": PaperLake(100_000, 10**9),
    "giants": PaperLake(100_000, 10**9, "giants"),
    "even": PaperLake(100_000, 10**9, "even"),
    "more rows than a float counts": PaperLake(100_000, 10**16),
    "fewer shards than shares": PaperLake(40, 10**10),
}


@pytest.mark.parametrize("name", LAKES)
def test_shares_are_those_of_another_algorithm_and_no_less_even_than_promised(name: str) -> None:
    rows = LAKES[name].rows()
    shares = assigned(rows, SHARES)
    assert shares == oracle(rows, SHARES)
    found = balance(rows, SHARES)
    loads = [0] * SHARES
    for one, of_one in zip(shares, rows, strict=True):
        loads[one] += of_one
    assert sum(rows) > 2**53 or "float" not in name
    assert found == Balance(SHARES, min(loads), max(loads), sum(rows), max(rows))
    # Graham: a share gets a shard only while it has no more than the mean.
    assert max(found.mean, max(rows)) <= found.biggest <= found.mean + max(rows)
    if max(rows) < found.mean / 2:
        assert found.imbalance < 1.001


def test_a_lake_with_giants_is_as_even_as_its_biggest_shard_lets_it_be() -> None:
    rows = LAKES["giants"].rows()
    found = balance(rows, SHARES)
    assert found.biggest == max(rows) > 4 * found.mean


def test_a_hundred_shares_are_a_partition() -> None:
    rows = PaperLake(2000, 10**8, "giants").rows()
    shards = [shard(name_of(place), count) for place, count in enumerate(rows)]
    found = [s.name for index in range(100) for s in share(shards, index, 100)]
    assert sorted(found) == [s.name for s in shards]


@given(st.lists(st.integers(0, 2**62), max_size=30), st.integers(1, 8))
def test_each_shard_is_of_one_share_that_was_the_least_loaded(rows: list[int], count: int) -> None:
    shares = assigned(rows, count)
    assert len(shares) == len(rows)
    assert all(0 <= one < count for one in shares)
    most = max(rows, default=0)
    assert balance(rows, count).biggest <= sum(max(1, n) for n in rows) / count + max(1, most)


# What a pod holds


@pytest.fixture
def paper(tmp_path: Path) -> tuple[PaperLake, Path]:
    """A lake, and the folder of an output in which it is frozen."""
    lake, folder = PaperLake(20_000, 10**13), tmp_path / "out"
    assert frozen.freeze(LocalStorage(folder), "a-job", Discovery(lake.discovered(), ()))
    return lake, folder


def test_a_pod_of_a_thousand_holds_little_of_the_others_and_finds_its_share(
    paper: tuple[PaperLake, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, folder = paper
    index = 7
    shares = oracle(lake.rows(), SHARES)
    (tmp_path / "model.keras").write_bytes(b"no model")
    monkeypatch.setattr(survey, "digest_model", lambda *_: "a" * 64)
    for scheme in ("paper", "paper-out"):
        monkeypatch.setitem(_factories, scheme, None)
    register_paper()
    job = Job(
        model=str(tmp_path / "model.keras"),
        input=(lake.address,),
        output=paper_output(folder, shares, index),
        plan_id="a-job",
        shard_index=index,
        shard_count=SHARES,
    )
    survey.survey(job)  # what is imported or cached once is no shard's
    tracemalloc.start()
    try:
        found = survey.survey(job)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.found.failed == ()
    places = [place_of(shard.name) for shard in found.standing.pending]
    assert places == [place for place, one in enumerate(shares) if one == index]
    assert peak / lake.shards < MOST_BYTES
    assert held / lake.shards < MOST_BYTES / 4
    assert len(found.found.shards) == lake.shards
    assert sum(one.rows for one in found.found.shards) == sum(lake.rows()) > 2**43


def test_a_list_of_shards_gives_what_it_was_given(paper: tuple[PaperLake, Path]) -> None:
    lake, _ = paper
    few = lake.discovered()[:100]
    found = ShardList(one.identity for one in few)
    assert [one.identity for one in found] == [one.identity for one in few]
    assert [*found.names()] == [one.name for one in few]
    assert found[-1].identity == few[-1].identity
    assert [one.name for one in found[3:9:2]] == [few[i].name for i in (3, 5, 7)]
    with pytest.raises(IndexError):
        found[100]
    assert found.rows == array("q", [one.rows for one in few])


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 1.5}, {"rows": "1"}, {"rows": 2**63}, {"footer_sha256": "ab"},
        {"footer_sha256": "x" * 64},
    ],
)  # fmt: skip
def test_what_is_no_identity_is_refused(wrong: dict[str, object]) -> None:
    entry = {**shard().identity, **wrong}
    with pytest.raises((TypeError, ValueError, OverflowError)):
        ShardList([entry])


# What `plan` shows


def test_a_plan_shows_how_even_shares_are() -> None:
    document = {
        "model": "m", "model_sha256": "0" * 64, "output": "o", "begun": True,
        "shards": {"total": 3, "done": 0, "pending": 3, "failed": 0},
        "rows": {"total": 90, "pending": 90}, "bytes": {"total": 9, "pending": 9},
        "on_bad_row": "fail", "keep": ["unused"], "other_files": 0,
        "shares": {
            "count": 2, "smallest_rows": 1000, "biggest_rows": 1100, "mean_rows": 1050.0,
            "biggest_shard_rows": 600,
        },
    }  # fmt: skip
    assert "shares:   2 of 1,000 to 1,100 rows, 1,050 on average\n" in plan_text(document)
    document["shares"]["biggest_shard_rows"] = 1100  # type: ignore[index]
    assert "1,050 on average; one shard alone has 1,100\n" in plan_text(document)
