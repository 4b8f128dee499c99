"""Discovery: which files are shards, what each is called, and what becomes of unreadable ones."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.discover import Discovery, discover
from pipeline.errors import CorruptShardError, NoInputError, UsageError
from pipeline.records import Shard
from tests.unit.conftest import TABLE, Put, parquet_bytes

OUTPUT = "/somewhere/else"


def found(*inputs: object, output: object = OUTPUT, follow_links: bool = False) -> Discovery:
    return discover([str(address) for address in inputs], str(output), follow_links=follow_links)


def names(*inputs: object, output: object = OUTPUT, follow_links: bool = False) -> list[str]:
    """The shards' names; every file must have been readable."""
    discovery = found(*inputs, output=output, follow_links=follow_links)
    assert discovery.failed == ()
    return [shard.name for shard in discovery.shards]


def only(*inputs: object) -> Shard:
    (shard,) = found(*inputs).shards
    return shard


# Files, folders and globs


def test_a_shard_is_described_by_its_footer(put: Put) -> None:
    path = put("lake/a.parquet")
    shard = only(path.parent)
    assert (shard.name, shard.path) == ("a.parquet", str(path))
    assert (shard.rows, shard.schema) == (3, TABLE.schema)
    assert (shard.size, shard.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_a_folder_is_searched_to_any_depth_and_sorted(put: Put, tmp_path: Path) -> None:
    created = ["year=2013/month=02/a.parquet", "year=2013/month=01/b.pq", "c.parq", "z/a.parquet"]
    for name in created:
        put(f"lake/{name}")
    assert names(tmp_path / "lake") == sorted(created)


def test_only_parquet_files_of_a_folder_are_shards(put: Put, tmp_path: Path) -> None:
    for name in ("a.parquet", "README.md", "a.parquet.crc", "a.csv", "parquet"):
        put(f"lake/{name}")
    assert names(tmp_path / "lake") == ["a.parquet"]


HIDDEN = ["_x.parquet", ".x.parquet", "_folder/a.parquet", "year=2013/.tmp/a.parquet"]


def test_hidden_names_are_passed_over(put: Put, tmp_path: Path) -> None:
    for name in ["a.parquet", "year=2013/a_b.parquet", *HIDDEN]:
        put(f"lake/{name}")
    shown = ["a.parquet", "year=2013/a_b.parquet"]
    assert names(tmp_path / "lake") == shown
    assert names(tmp_path / "lake" / "**" / "*.parquet") == shown


def test_an_input_may_itself_lie_below_a_hidden_folder(put: Put) -> None:
    folder = put("_private/.lake/a.parquet").parent
    assert names(folder) == ["a.parquet"]
    assert names(folder / "*.parquet") == ["a.parquet"]


def test_a_file_is_a_shard_whatever_its_ending(put: Put) -> None:
    assert names(put("lake/part-0001.snappy")) == ["part-0001.snappy"]


def test_a_file_whose_output_no_reader_would_see_is_refused(put: Put) -> None:
    with pytest.raises(UsageError, match="invisible in the output"):
        names(put("lake/_part.parquet"))


def test_an_ending_may_be_in_capitals(put: Put, tmp_path: Path) -> None:
    put("lake/a.parquet")
    put("lake/b.PARQUET")
    assert names(tmp_path / "lake") == ["a.parquet", "b.PARQUET"]


def test_linked_folders_are_input_too_and_each_once_where_links_are_followed(
    put: Put, tmp_path: Path
) -> None:
    put("elsewhere/x.parquet")
    put("lake/a.parquet")
    (tmp_path / "lake" / "year=2013").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "lake" / "ring").symlink_to(tmp_path / "lake")
    (tmp_path / "elsewhere" / "ring").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "lake", follow_links=True) == ["a.parquet", "year=2013/x.parquet"]


def test_a_link_to_a_folder_whose_name_begins_the_same_is_followed(
    put: Put, tmp_path: Path
) -> None:
    put("lake/old.parquet")
    put("lake2/new.parquet")
    (tmp_path / "lake2" / "old").symlink_to(tmp_path / "lake")
    assert names(tmp_path / "lake2", follow_links=True) == ["new.parquet", "old/old.parquet"]


def test_a_link_to_a_folder_of_the_input_adds_nothing(put: Put, tmp_path: Path) -> None:
    put("lake/2024/a.parquet")
    (tmp_path / "lake" / "latest").symlink_to("2024")
    (tmp_path / "lake" / "2024" / "self").symlink_to(".")
    assert names(tmp_path / "lake") == ["2024/a.parquet"]


def test_a_link_to_a_folder_above_the_input_is_refused(put: Put, tmp_path: Path) -> None:
    put("above/lake/a.parquet")
    (tmp_path / "above" / "lake" / "up").symlink_to(tmp_path / "above")
    with pytest.raises(UsageError, match="leads to one above it"):
        names(tmp_path / "above" / "lake", follow_links=True)


def test_two_links_to_one_folder_are_two_names_for_its_shards(put: Put, tmp_path: Path) -> None:
    put("elsewhere/x.parquet")
    put("lake/a.parquet")
    for name in ("b", "c"):
        (tmp_path / "lake" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="two links in the folder lead to one"):
        names(tmp_path / "lake", follow_links=True)


def test_folders_that_link_to_each_other_do_not_multiply(put: Put, tmp_path: Path) -> None:
    for one in range(12):
        put(f"web/{one}/x.parquet")
        for other in range(12):
            if one != other:
                (tmp_path / "web" / str(one) / f"to{other}").symlink_to(
                    tmp_path / "web" / str(other)
                )
    put("lake/a.parquet")
    (tmp_path / "lake" / "in").symlink_to(tmp_path / "web" / "0")
    with pytest.raises(UsageError, match="two links in the folder lead to one"):
        names(tmp_path / "lake", follow_links=True)


def test_a_link_to_a_hidden_folder_of_the_input_is_followed(put: Put, tmp_path: Path) -> None:
    put("lake/one.parquet")
    put("lake/.versions/5/two.parquet")
    put("lake/.git/three.parquet")
    (tmp_path / "lake" / "current").symlink_to(".versions/5")
    (tmp_path / "lake" / ".git" / "above").symlink_to(tmp_path)
    assert names(tmp_path / "lake") == ["current/two.parquet", "one.parquet"]


def test_an_escaped_path_that_does_not_exist_is_no_other(put: Put, tmp_path: Path) -> None:
    put("in1/bad.parquet")
    with pytest.raises(NoInputError):
        names(f"{tmp_path}/in[[]1]/bad.parquet")


def test_what_is_no_regular_file_is_a_failed_shard(put: Put, tmp_path: Path) -> None:
    put("lake/a.parquet")
    os.mkfifo(tmp_path / "lake" / "pipe.parquet")
    (tmp_path / "lake" / "self.parquet").symlink_to("self.parquet")
    found = discover([str(tmp_path / "lake")], str(tmp_path / "out"))
    assert [shard.name for shard in found.shards] == ["a.parquet"]
    assert [failed.name for failed in found.failed] == ["pipe.parquet", "self.parquet"]


def test_an_escaped_path_and_a_glob_in_an_odd_folder_are_found(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("g[1]/in/y.parquet")
    assert names(glob.escape(str(tmp_path / "g[1]" / "in" / "y.parquet"))) == ["y.parquet"]
    monkeypatch.chdir(tmp_path / "g[1]")
    assert names("in/*.parquet") == ["y.parquet"]


def test_a_link_that_leads_nowhere_is_a_failed_shard(put: Put, tmp_path: Path) -> None:
    put("lake/a.parquet")
    (tmp_path / "lake" / "c.parquet").symlink_to(tmp_path / "gone")
    for given in (tmp_path / "lake", tmp_path / "lake" / "*"):
        found = discover([str(given)], str(tmp_path / "out"))
        assert [shard.name for shard in found.shards] == ["a.parquet"]
        assert [failed.name for failed in found.failed] == ["c.parquet"]


def test_a_folder_that_a_glob_matches_is_descended_into(put: Put, tmp_path: Path) -> None:
    put("lake/a.parquet")
    put("lake/sub/b.parquet")
    assert names(tmp_path / "lake" / "*") == ["a.parquet", "sub/b.parquet"]
    assert names(tmp_path / "lake" / "**") == ["a.parquet", "sub/b.parquet"]


def test_one_shard_given_twice_under_two_names_is_refused(put: Put, tmp_path: Path) -> None:
    put("lake/sub/b.parquet")
    lake = tmp_path / "lake"
    with pytest.raises(UsageError, match="under two names"):
        discover([str(lake), str(lake / "sub" / "b.parquet")], str(tmp_path / "out"))
    twice = discover([str(lake), str(lake)], str(tmp_path / "out"))
    assert len(twice.shards) == 1


def test_the_shards_of_a_glob_are_named_below_its_plain_part(put: Put, tmp_path: Path) -> None:
    for name in ("year=2012/a.parquet", "year=2013/a.parquet", "year=2013/b.csv"):
        put(f"lake/{name}")
    pattern = tmp_path / "lake" / "year=*" / "*.parquet"
    assert names(pattern) == ["year=2012/a.parquet", "year=2013/a.parquet"]


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(put: Put) -> None:
    assert names(put("lake[1]/a.parquet").parent) == ["a.parquet"]


def test_an_escaped_folder_belongs_to_the_plain_part_of_a_glob(put: Put) -> None:
    folder = put("lake[1]/a.parquet").parent
    assert names(glob.escape(str(folder)) + "/*.parquet") == ["a.parquet"]


def test_a_relative_input_is_found_from_the_current_folder(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put("lake/a.parquet")
    monkeypatch.chdir(tmp_path)
    for address in ("lake", "lake/a.parquet", "lake/*.parquet"):
        assert only(address).path == str(path)


def test_several_inputs_are_one_list(put: Put) -> None:
    assert names(put("one/b.parquet"), put("two/a.parquet").parent) == ["a.parquet", "b.parquet"]


def test_an_input_named_twice_is_read_once(put: Put) -> None:
    path = put("lake/a.parquet")
    assert names(path.parent, path, path.parent / "*.parquet") == ["a.parquet"]


# What is refused


def test_two_shards_of_one_name_are_refused_and_both_are_named(put: Put) -> None:
    one, two = put("one/a.parquet"), put("two/a.parquet")
    with pytest.raises(UsageError, match="one name") as caught:
        found(one.parent, two.parent)
    assert (caught.value.received or "").splitlines() == [str(one), str(two)]


@pytest.mark.parametrize("address", ["lake", "lake/*.parquet", "none", "none/*.parquet"])
def test_an_input_without_a_shard_is_an_error(put: Put, tmp_path: Path, address: str) -> None:
    for name in HIDDEN:
        put(f"lake/{name}")
    with pytest.raises(NoInputError) as caught:
        found(tmp_path / address)
    assert caught.value.path == str(tmp_path / address)


def test_one_input_without_a_shard_is_an_error_though_another_has_some(
    put: Put, tmp_path: Path
) -> None:
    with pytest.raises(NoInputError):
        found(put("lake/a.parquet").parent, tmp_path / "none")


# The output

# Ways to write one folder.
SPELLINGS = ["plain", "with a slash", "relative", "with dots", "through a link"]


def spelled(folder: Path, spelling: str) -> str:
    link = folder.parent.parent / "link"
    if spelling == "through a link":
        link.symlink_to(folder.parent)
    return {
        "plain": str(folder),
        "with a slash": f"{folder}/",
        "relative": os.path.relpath(folder),
        "with dots": f"{folder.parent}/../{folder.parent.name}/{folder.name}",
        "through a link": f"{link}/{folder.name}",
    }[spelling]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("pattern", ["", "/**/*.parquet"])
def test_an_output_inside_an_input_is_not_read(put: Put, spelling: str, pattern: str) -> None:
    lake = put("lake/a.parquet").parent
    put("lake/out/year=2013/a.parquet")
    put("lake/out-of-band/a.parquet")
    output = spelled(lake / "out", spelling)
    assert names(f"{lake}{pattern}", output=output) == ["a.parquet", "out-of-band/a.parquet"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_input_may_be_spelled_otherwise_than_the_output_inside_it(
    put: Put, spelling: str
) -> None:
    lake = put("data/lake/a.parquet").parent
    put("data/lake/out/a.parquet")
    assert names(spelled(lake, spelling), output=lake / "out") == ["a.parquet"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_output_that_is_an_input_is_refused(put: Put, spelling: str) -> None:
    lake = put("data/lake/a.parquet").parent
    with pytest.raises(UsageError, match="output"):
        found(lake, output=spelled(lake, spelling))


# Files that cannot be read

BROKEN = {
    "empty": b"",
    "short": b"PAR1PAR1",
    "text": b"flight,delay\n1,2\n" * 10,
    "truncated": parquet_bytes()[:-20],
    "damaged": parquet_bytes()[:-60] + b"\xff" * 52 + parquet_bytes()[-8:],
    "hollow": b"PAR1" + b"\0" * 4 + b"PAR1",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_read_fails_alone(put: Put, data: bytes) -> None:
    put("lake/good.parquet")
    path = put("lake/year=2013/bad.parquet", data)
    discovery = found(path.parent.parent)
    assert [shard.name for shard in discovery.shards] == ["good.parquet"]
    (failed,) = discovery.failed
    assert (failed.name, failed.path) == ("year=2013/bad.parquet", str(path))
    assert type(failed.error) is CorruptShardError
    assert failed.error.path == str(path)
    assert failed.error.received


def test_an_input_of_unreadable_files_alone_is_no_missing_input(put: Put) -> None:
    discovery = found(put("lake/a.parquet", b"").parent)
    assert discovery.shards == ()
    assert [failed.name for failed in discovery.failed] == ["a.parquet"]


# Names from outside

STRANGE = ["new\nline", "esc\x1b[2J", "tab\t", "quote'\"", "space ", "é", "per%20cent", "a*b", "#"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_is_kept_as_it_is(put: Put, name: str) -> None:
    path = put(f"lake/{name}.parquet")
    assert names(path.parent) == [f"{name}.parquet"]
    assert names(path) == [f"{name}.parquet"]


@pytest.mark.parametrize("name", STRANGE)
def test_the_error_of_a_file_with_a_strange_name_is_harmless(put: Put, name: str) -> None:
    (failed,) = found(put(f"lake/{name}.parquet", b"").parent).failed
    assert failed.name == f"{name}.parquet"
    assert all(line.isprintable() for line in str(failed.error).splitlines())
    assert str(failed.error).splitlines()[2].startswith("  received:")


def test_a_name_that_is_not_utf8_does_not_end_the_listing(put: Put) -> None:
    put("lake/good.parquet")
    name = os.fsdecode(b"latin-\xe9.parquet")
    discovery = found(put(f"lake/{name}").parent)
    assert [shard.name for shard in discovery.shards][:1] == ["good.parquet"]
    assert name in {item.name for item in (*discovery.shards, *discovery.failed)}


# Identity and schemas


def test_a_copy_has_the_same_identity(put: Put, tmp_path: Path) -> None:
    original = put("lake/a.parquet")
    copy = tmp_path / "copy" / "a.parquet"
    copy.parent.mkdir()
    shutil.copyfile(original, copy)
    os.utime(copy, (1, 1))
    assert only(copy).identity == only(original).identity
    assert only(copy) != only(original)


@pytest.mark.parametrize(
    "changed",
    [
        pa.table({"x": [1.0, 2.0, 4.0], "label": ["a", "b", "c"]}),
        pa.table({"x": [1.0, 2.0, 3.0], "name": ["a", "b", "c"]}),
        TABLE.slice(0, 2),
    ],
    ids=["a value", "a name", "a row"],
)
def test_a_change_changes_the_digest_of_the_footer(put: Put, changed: pa.Table) -> None:
    before = only(put("lake/a.parquet")).footer_sha256
    assert only(put("lake/a.parquet", parquet_bytes(changed))).footer_sha256 != before


def test_shards_of_equal_schemas_share_one_object(put: Put, tmp_path: Path) -> None:
    # What other programs note in a file says nothing of its columns.
    noted = TABLE.replace_schema_metadata({"pandas": "{}"})
    put("lake/a.parquet")
    put("lake/b.parquet", parquet_bytes(TABLE.slice(1)))
    put("lake/c.parquet", parquet_bytes(TABLE.select(["label", "x"])))
    put("lake/d.parquet", parquet_bytes(noted))
    a, b, c, d = (shard.schema for shard in found(tmp_path / "lake").shards)
    assert a is b
    assert a is d
    assert a != c


@pytest.mark.parametrize(
    ("view", "plain"),
    [
        (pa.string_view(), pa.string()),
        (pa.binary_view(), pa.binary()),
        (pa.list_(pa.string_view()), pa.list_(pa.string())),
        (pa.struct([("x", pa.binary_view())]), pa.struct([("x", pa.binary())])),
    ],
)
def test_a_view_is_described_as_the_plain_type_that_arrow_can_filter(
    put: Put, view: pa.DataType, plain: pa.DataType
) -> None:
    shard = only(put("a.parquet", parquet_bytes(pa.table({"x": pa.array([None], view)}))))
    assert shard.schema.field("x").type == plain


def test_a_glob_of_thousands_of_parts_is_refused(put: Put, tmp_path: Path) -> None:
    put("lake/a.parquet")
    with pytest.raises(UsageError, match="more parts than can be matched"):
        found(f"{tmp_path}/lake/{'*/' * 5000}a.parquet")
