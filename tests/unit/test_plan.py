"""The plan: which shards are done, and how the others are cut into units."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ChangedInputError, OutputMismatchError
from pipeline.footer import Provenance
from pipeline.plan import (
    GROUP_BATCHES,
    GROUP_SHARDS,
    Standing,
    listing,
    plan_id,
    standing,
    together,
    work_units,
)
from pipeline.records import Shard, WorkUnit
from pipeline.shares import Balance, assigned, balance, share, share_of_unreadable
from tests.unit.conftest import FINGERPRINT, note_of, shard


@st.composite
def lakes(draw: st.DrawFn) -> list[Shard]:
    """Shards of every size around the thresholds, and enough of them to overflow a group."""
    runs = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 700)), max_size=6))
    rows = [size for size, times in runs for _ in range(times)]
    return [shard(f"{i:05}.parquet", size) for i, size in enumerate(rows)]


sizes = st.integers(1, 20)
thresholds = st.integers(0, 60)


@given(lakes(), sizes, thresholds)
def test_the_units_are_a_partition_of_the_pending_shards_in_order(
    pending: list[Shard], batch_size: int, threshold: int
) -> None:
    units = work_units(pending, batch_size, threshold)
    assert [member for unit in units for member in unit.shards] == pending
    assert all(unit.shards for unit in units)


@given(lakes(), sizes, thresholds)
def test_a_big_shard_is_alone_and_no_unit_mixes_big_and_small(
    pending: list[Shard], batch_size: int, threshold: int
) -> None:
    for unit in work_units(pending, batch_size, threshold):
        assert {member.rows <= threshold for member in unit.shards} == {unit.small}
        assert unit.small or len(unit.shards) == 1


@given(lakes(), sizes, thresholds)
def test_a_group_is_bounded_in_rows_and_in_shards(
    pending: list[Shard], batch_size: int, threshold: int
) -> None:
    for unit in work_units(pending, batch_size, threshold):
        assert unit.rows <= GROUP_BATCHES * batch_size or len(unit.shards) == 1
        assert len(unit.shards) <= GROUP_SHARDS


@given(lakes(), sizes, thresholds)
def test_neighbouring_small_shards_share_a_unit_until_a_bound_is_reached(
    pending: list[Shard], batch_size: int, threshold: int
) -> None:
    def could_take(unit: WorkUnit, member: Shard) -> bool:
        fits = unit.rows + member.rows <= GROUP_BATCHES * batch_size
        return fits and len(unit.shards) < GROUP_SHARDS

    for one, other in pairwise(work_units(pending, batch_size, threshold)):
        assert not (one.small and other.small and could_take(one, other.shards[0]))


def test_nothing_pending_is_no_unit() -> None:
    assert work_units([], 32, 32) == ()


@given(st.lists(st.sampled_from(["done", "pending", "changed"]), max_size=20))
def test_shards_are_sorted_by_what_is_published_of_them(states: list[str]) -> None:
    shards = [shard(f"{i:02}.parquet") for i in range(len(states))]
    published: dict[str, Provenance | None] = {"of-no-shard.parquet": note_of(shard("x.parquet"))}
    for member, state in zip(shards, states, strict=True):
        if state == "done":
            published[member.name] = note_of(member)
        if state == "changed":
            published[member.name] = note_of(shard(member.name, rows=11))
    found = standing(shards, published, FINGERPRINT, "/out")

    def in_state(wanted: str) -> list[str]:
        return [s.name for s, state in zip(shards, states, strict=True) if state == wanted]

    assert [member.name for member in found.done] == in_state("done")
    assert [member.name for member in found.pending] == in_state("pending")
    assert [member.name for member in found.changed] == in_state("changed")


def test_a_shard_that_was_only_moved_or_touched_is_done() -> None:
    here = shard("a.parquet", root="/lake", mtime_ns=1)
    there = shard("a.parquet", root="/copy", key="sub/a.parquet", mtime_ns=2)
    assert standing([there], {"a.parquet": note_of(here)}, FINGERPRINT, "/out").done == (there,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows": 11}, ("rows 10", "rows 11")),
        ({"size": 1001}, ("size 1000", "size 1001")),
        ({"footer_sha256": "1" * 64}, ("footer_sha256 000", "footer_sha256 111")),
    ],
)
def test_a_changed_shard_fails_saying_what_differs(
    change: dict[str, int | str], named: tuple[str, str]
) -> None:
    was, now = shard(), shard(**change)
    (failed,) = standing([now], {now.name: note_of(was)}, FINGERPRINT, "/out").changed
    error = failed.error
    assert isinstance(error, ChangedInputError)
    assert failed.path == error.path == now.path
    assert (error.expected or "").startswith(named[0])
    assert (error.received or "").startswith(named[1])
    assert "--rescore-changed" in (error.hint or "")


@pytest.mark.parametrize("note", [None, note_of(shard(), fingerprint="e" * 64)])
def test_a_foreign_file_under_a_final_name_is_refused(note: Provenance | None) -> None:
    with pytest.raises(OutputMismatchError) as caught:
        standing([shard("b.parquet"), shard()], {"a.parquet": note}, FINGERPRINT, "/out")
    assert caught.value.path == "/out/a.parquet"
    assert FINGERPRINT[:12] in (caught.value.expected or "")
    assert ("eeee" if note else "did not write") in (caught.value.received or "")


def test_a_foreign_file_that_no_shard_would_replace_is_let_be() -> None:
    assert standing([shard()], {"else.parquet": None}, FINGERPRINT, "/out").pending == (shard(),)


few_shards = st.lists(
    st.builds(
        shard,
        st.sampled_from(["a", "b"]),
        st.integers(0, 1),
        size=st.integers(0, 1),
        footer_sha256=st.sampled_from(["0", "1"]),
        root=st.sampled_from(["/here", "/there"]),
        mtime_ns=st.integers(0, 1),
    ),
    max_size=2,
)


@given(few_shards, few_shards)
def test_plans_have_one_id_if_and_only_if_they_list_the_same_content(
    one: list[Shard], other: list[Shard]
) -> None:
    same_content = [s.identity for s in one] == [s.identity for s in other]
    assert (plan_id(listing(one)) == plan_id(listing(other))) == same_content


# Shares


@given(
    rows=st.lists(st.integers(0, 10_000), max_size=40),
    count=st.integers(1, 9),
)
def test_shares_are_a_partition_in_order(rows: list[int], count: int) -> None:
    shards = [shard(f"{i:03}.parquet", rows=n) for i, n in enumerate(rows)]
    shares = [share(shards, index, count) for index in range(count)]
    assert sorted((s for part in shares for s in part), key=lambda s: s.name) == shards
    assert all(list(part) == sorted(part, key=lambda s: s.name) for part in shares)


@given(
    rows=st.lists(st.integers(0, 10_000), max_size=40),
    count=st.integers(1, 9),
)
def test_no_share_is_heavier_than_another_by_more_than_one_shard(
    rows: list[int], count: int
) -> None:
    shards = [shard(f"{i:03}.parquet", rows=n) for i, n in enumerate(rows)]
    loads = [sum(max(1, s.rows) for s in share(shards, i, count)) for i in range(count)]
    assert max(loads) - min(loads) <= max([1, *rows])


@given(st.permutations(range(9)), st.integers(1, 4))
def test_shares_do_not_depend_on_the_order_of_the_listing(order: list[int], count: int) -> None:
    shards = [shard(f"{i}.parquet", rows=i % 3) for i in range(9)]
    found = [share([shards[i] for i in order], index, count) for index in range(count)]
    assert [set(one) for one in found] == [set(share(shards, i, count)) for i in range(count)]
    # Each share is in the order of the listing, whatever that is.
    places = [[order.index(shards.index(s)) for s in one] for one in found]
    assert places == [sorted(one) for one in places]


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        ([], []),
        ([0, 0, 0, 0], [0, 1, 0, 1]),
        ([1, 1, 1], [0, 1, 0]),
        ([2, 1, 1], [0, 1, 1]),
        ([1, 0, 2], [1, 1, 0]),
        ([5, 9, 4, 1], [1, 0, 1, 0]),
    ],
    ids=str,
)
def test_the_biggest_shard_goes_first_to_the_least_loaded_share(
    rows: list[int], shares: list[int]
) -> None:
    assert list(assigned(rows, 2)) == shares


def test_shares_of_nothing_are_even() -> None:
    found = balance([], 3)
    assert found == Balance(3, 0, 0, 0, 0)
    assert (found.mean, found.imbalance) == (0, 1)


def test_each_unreadable_file_is_of_one_share() -> None:
    names = [f"{i}\udcff.parquet" for i in range(50)]
    assert {share_of_unreadable(name, 4) for name in names} == {0, 1, 2, 3}


@given(st.lists(st.lists(st.sampled_from(["done", "pending", "changed", "replaced"]), max_size=4)))
def test_parts_of_an_input_stand_together_as_the_whole_would(parts: list[list[str]]) -> None:
    notes: dict[str, Provenance | None] = {}
    members: list[list[Shard]] = []
    for i, states in enumerate(parts):
        members.append([shard(f"{i}-{j}.parquet", rows=10) for j in range(len(states))])
        for member, state in zip(members[-1], states, strict=True):
            if state != "pending":
                was = member if state == "done" else replace(member, rows=11)
                notes[member.name] = note_of(was)
    again = {m.name for states, part in zip(parts, members, strict=True)
             for m, state in zip(part, states, strict=True) if state == "replaced"}  # fmt: skip

    def stands(of: list[Shard]) -> Standing:
        return standing(of, notes, FINGERPRINT, "/out", rescore=lambda s, _: s.name in again)

    def told(at: Standing) -> list[object]:
        changed = [(failed.name, failed.path, str(failed.error)) for failed in at.changed]
        return [at.done, at.pending, changed, at.replaced]

    whole = stands([member for part in members for member in part])
    assert told(together(stands(part) for part in members)) == told(whole)


def test_a_shard_of_which_no_more_than_its_identity_is_known_was_found_published() -> None:
    known = shard(schema=None)
    last = shard("b.parquet")
    at = standing([known, last], {last.name: note_of(last)}, FINGERPRINT, "/out")
    assert at.done == (known, last)


# What is to be scored again


def test_a_changed_shard_that_may_be_rescored_is_pending_and_its_file_is_to_be_replaced() -> None:
    was, now, same = shard(), shard(size=2), shard("b.parquet")
    notes = {now.name: note_of(was), same.name: note_of(same)}
    at = standing(
        [now, same], notes, FINGERPRINT, "/out", rescore=lambda s, n: n.input != s.identity
    )
    assert (at.pending, at.done, at.changed) == ((now,), (same,), ())
    assert at.replaced == {now.name}


def test_a_file_of_another_job_is_never_to_be_replaced() -> None:
    notes = {"a.parquet": note_of(shard(), fingerprint="e" * 64)}
    with pytest.raises(OutputMismatchError):
        standing([shard(size=2)], notes, FINGERPRINT, "/out", rescore=lambda *_: True)


def test_dead_letters_never_take_the_place_of_the_shard_that_they_are_of() -> None:
    letters = pa.schema([("x", pa.float32()), ("quarantine_row", pa.int64())])
    whole = shard("a.parquet", 100)
    few = replace(whole, rows=3, size=9, schema=letters)
    note = note_of(whole)
    at = standing([few], {"a.parquet": note}, FINGERPRINT, "out", rescore=lambda *_: True)
    assert not at.pending
    (failed,) = at.changed
    assert "dead letters" in failed.error.message
    assert "another --output" in (failed.error.hint or "")
    # Mended once more, they are what they were: all of the rows that were scored from such a file.
    again = replace(few, size=10)
    note = note_of(few)
    at = standing([again], {"a.parquet": note}, FINGERPRINT, "out", rescore=lambda *_: True)
    assert at.pending == (again,)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_listing_is_one_json_document_of_all_identities(count: int) -> None:
    shards = [shard(f"\u00e9\n{i}.parquet", rows=i) for i in range(count)]
    whole = {"format": 1, "shards": [member.identity for member in shards]}
    assert listing(shards) == json.dumps(whole, indent=0, sort_keys=True).encode()
