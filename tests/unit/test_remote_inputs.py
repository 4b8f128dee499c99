"""Inputs in object stores: which objects are shards. Mostly in memory; once on a real server."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from pipeline.discover import Discovery, discover
from pipeline.errors import ContractError, CorruptShardError, NoInputError, UsageError
from pipeline.storage import storage_at
from tests.services import SeaweedServer, s3_client
from tests.unit.conftest import TABLE, parquet_bytes


@pytest.fixture
def lake() -> str:
    """The address of an empty folder."""
    return f"memory://{secrets.token_hex(8)}/lake"


def put(root: str, *names: str, data: bytes | None = None) -> None:
    for name in names:
        storage_at(root).create(name, parquet_bytes() if data is None else data)


def found(*inputs: str, output: str = "/somewhere/else") -> Discovery:
    return discover(inputs, output)


def names(*inputs: str, output: str = "/somewhere/else") -> list[str]:
    discovery = found(*inputs, output=output)
    assert discovery.failed == ()
    return [shard.name for shard in discovery.shards]


def test_a_folder_is_searched_to_any_depth_by_the_rules_of_a_disk(lake: str) -> None:
    put(lake, "year=2013/b.pq", "a.PARQUET", "c.parq")
    put(lake, "_x.parquet", ".y.parquet", "_SUCCESS/a.parquet", "README.md", data=b"no shard")
    wanted = ["a.PARQUET", "c.parq", "year=2013/b.pq"]
    assert names(lake) == names(f"{lake}/") == wanted


def test_a_shard_is_described_by_its_listing_and_its_footer(s3: str) -> None:
    put(s3, "a.parquet")
    (shard,) = found(f"{s3}/").shards
    info = storage_at(s3).info("a.parquet")
    assert (shard.name, shard.path, shard.root) == ("a.parquet", f"{s3}/a.parquet", s3)
    assert (shard.size, shard.mtime_ns, shard.etag) == (info.size, info.mtime_ns, info.etag)
    assert (shard.rows, shard.schema) == (3, TABLE.schema)
    assert shard.etag is not None


def test_a_shard_has_one_identity_on_a_disk_and_in_a_store(s3: str, tmp_path: Path) -> None:
    put(s3, "a.parquet")
    (tmp_path / "a.parquet").write_bytes(parquet_bytes())
    (there,), (here,) = found(s3).shards, found(str(tmp_path)).shards
    assert there.identity == here.identity


def test_one_object_is_an_input_whatever_its_ending(s3: str) -> None:
    put(s3, "folder/a b.parquet", "folder/c.bin")
    assert names(f"{s3}/folder/a b.parquet") == ["a b.parquet"]
    assert names(f"{s3}/folder/c.bin") == ["c.bin"]


GLOBS = {
    "*.parquet": ["a.parquet", "b.parquet"],
    "a*": ["a.parquet", "a/x.parquet", "a/y/x.parquet"],
    "*/x.parquet": ["a/x.parquet"],
    "**/x.parquet": ["a/x.parquet", "a/y/x.parquet", "x.parquet"],
    "a/**": ["x.parquet", "y/x.parquet"],
    "a/[xy]*": ["x.parquet", "y/x.parquet"],
    "?.parquet": ["a.parquet", "b.parquet", "x.parquet"],
    "[!a].parquet": ["b.parquet", "x.parquet"],
    "*/y": ["a/y/x.parquet"],
}


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_finds_what_it_finds_on_a_disk(lake: str, tmp_path: Path, pattern: str) -> None:
    wanted = GLOBS[pattern]
    objects = ["a.parquet", "b.parquet", "a/x.parquet", "a/y/x.parquet", "_h/x.parquet"]
    if "x.parquet" in wanted and not pattern.startswith("a/"):
        objects.append("x.parquet")
    put(lake, *objects)
    for name in objects:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(parquet_bytes())
    assert names(f"{lake}/{pattern}") == wanted
    assert names(f"{tmp_path}/{pattern}") == wanted


def test_an_object_or_folder_whose_name_looks_like_a_glob_is_found_by_its_name(lake: str) -> None:
    put(lake, "a[1].parquet", "b[1]/x.parquet", "a1.parquet")
    assert names(f"{lake}/a[1].parquet") == ["a[1].parquet"]
    assert names(f"{lake}/b[1]") == ["x.parquet"]
    assert names(f"{lake}/a[[]1].parquet") == ["a[1].parquet"]


def test_what_lies_in_the_output_is_no_input(lake: str) -> None:
    put(lake, "a.parquet", "out/b.parquet", "outer/c.parquet")
    assert names(lake, output=f"{lake}/out") == ["a.parquet", "outer/c.parquet"]
    assert names(f"{lake}/**/*.parquet", output=f"{lake}/out/") == ["a.parquet", "outer/c.parquet"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_output_itself_is_no_input(lake: str, slash: str) -> None:
    put(lake, "a.parquet")
    with pytest.raises(UsageError, match="output is one of the inputs"):
        found(f"{lake}{slash}", output=lake)


@pytest.mark.parametrize("missing", ["none", "none/", "none.parquet", "*/none-*.parquet"])
def test_nothing_at_an_address_is_no_input(lake: str, missing: str) -> None:
    put(lake, "a.parquet")
    with pytest.raises(NoInputError) as caught:
        found(f"{lake}/{missing}")
    assert caught.value.path == f"{lake}/{missing}"


def test_a_folder_without_a_shard_is_no_input(lake: str) -> None:
    put(lake, "README.md", data=b"")
    with pytest.raises(NoInputError, match="no Parquet file"):
        found(lake)


def test_a_hidden_object_by_its_name_is_refused(lake: str) -> None:
    put(lake, "_a.parquet")
    with pytest.raises(UsageError, match="invisible"):
        found(f"{lake}/_a.parquet")


def test_two_objects_for_one_name_are_refused_naming_both(lake: str, tmp_path: Path) -> None:
    put(f"{lake}/x", "a.parquet")
    put(f"{lake}/y", "a.parquet")
    (tmp_path / "a.parquet").write_bytes(parquet_bytes())
    for other in (f"{lake}/y", str(tmp_path)):
        with pytest.raises(UsageError) as caught:
            found(f"{lake}/x", other)
        assert f"{lake}/x/a.parquet" in str(caught.value)
        assert f"{other}/a.parquet" in str(caught.value)


def test_one_object_under_two_names_is_refused(lake: str) -> None:
    put(lake, "x/a.parquet")
    with pytest.raises(UsageError, match="two names"):
        found(lake, f"{lake}/x/a.parquet")


def test_a_damaged_object_fails_and_the_others_are_found(s3: str) -> None:
    put(s3, "a.parquet", "b.parquet")
    put(s3, "broken.parquet", data=parquet_bytes()[:-20])
    put(s3, "empty.parquet", data=b"")
    discovery = found(s3)
    assert [shard.name for shard in discovery.shards] == ["a.parquet", "b.parquet"]
    assert {failed.name: type(failed.error) for failed in discovery.failed} == {
        "broken.parquet": CorruptShardError,
        "empty.parquet": CorruptShardError,
    }


def test_names_that_the_output_cannot_hold_fail_and_the_others_are_found(
    lake: str, tmp_path: Path
) -> None:
    long = "n" * 300 + ".parquet"
    put(lake, "a.parquet", long)
    discovery = found(lake, output=str(tmp_path / "out"))
    assert [shard.name for shard in discovery.shards] == ["a.parquet"]
    (failed,) = discovery.failed
    assert isinstance(failed.error, ContractError)
    assert failed.error.path == f"{lake}/{long}"
    assert "255" in (failed.error.received or "")


def test_keys_that_are_no_paths_fail_and_the_others_are_found(
    moto_s3: str, moto_endpoint: str
) -> None:
    odd = ["../y.parquet", "./z.parquet", "x//x.parquet", "t\tb.parquet"]
    prefix = moto_s3.removeprefix("s3://lake/")
    for key in ["a.parquet", *odd]:
        s3_client(moto_endpoint).put_object(
            Bucket="lake", Key=f"{prefix}/{key}", Body=parquet_bytes()
        )
    discovery = found(moto_s3)
    assert [shard.name for shard in discovery.shards] == ["a.parquet"]
    assert sorted(failed.name for failed in discovery.failed) == sorted(odd)
    for failed in discovery.failed:
        assert isinstance(failed.error, ContractError)
        assert failed.error.path == f"{moto_s3}/{failed.name}"
        assert failed.error.received


def test_many_shards_are_found_through_one_client(s3_server: SeaweedServer, s3: str) -> None:
    put(s3, *[f"{number:03}.parquet" for number in range(100)])
    assert len(names(s3)) == 100
