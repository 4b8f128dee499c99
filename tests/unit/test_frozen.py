"""A frozen listing: all runs of one plan id share out the same shards, whatever becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pipeline import frozen, preview, survey
from pipeline.errors import OutputMismatchError
from pipeline.job import Job
from pipeline.layout import frozen_name, plan_name
from pipeline.proof import document
from pipeline.storage import LocalStorage
from pipeline.verify import verify
from tests.faults.arithmetic import install
from tests.faults.lake import Lake, assert_proven, contents, make_lake, score_here

UID = "0b7c1c0e-3c1d-4b52-9d5f-1f2e3d4c5b6a"
SHARES = 3


@pytest.fixture(autouse=True)
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path / "l", {f"s{i}": (rows, ()) for i, rows in enumerate((9, 7, 5, 3))})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def add(lake: Lake, name: str, rows: int) -> None:
    table = pa.table({"a": pa.array([1.0] * rows, pa.float32()), "b": pa.array([2.0] * rows)})
    table = table.set_column(1, "b", table["b"].cast(pa.float32()))
    pq.write_table(table.append_column("id", pa.array(["new"] * rows)), lake.shards / name)


def share(lake: Lake, output: Path, index: int, plan_id: str | None = UID) -> Any:
    job = lake.job(output, shard_index=index, shard_count=SHARES, plan_id=plan_id, workers=1)
    return score_here(job)


def names(output: Path) -> set[str]:
    return {path.name for path in output.glob("*.parquet")}


def errors(report: Any) -> dict[str, str]:
    return {o.shard: o.error.message for o in report.outcomes if o.error is not None}


def assert_complete(output: Path) -> None:
    """All of its plan is there and proven, whatever is in the input by now."""
    found = document(verify(LocalStorage(output), inputs=()))
    assert found["ok"], found
    assert found["success"]


def listed(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / frozen_name(UID)).read_text())
    return found


def owner(lake: Lake, output: Path, name: str) -> int:
    """Which share has a shard."""
    for index in range(SHARES):
        before = names(output)
        share(lake, output, index, plan_id=None)
        if name in names(output) - before:
            return index
    raise AssertionError(name)


# What it is for


def test_shares_are_those_of_what_the_first_run_found(
    lake: Lake, output: Path, tmp_path: Path
) -> None:
    assert score_here(lake.job(tmp_path / "whole", workers=1)).state == "finished"
    share(lake, output, 0)
    # Bigger than all others, and so another sharing for who would count it in.
    add(lake, "a-new.parquet", 1000)
    share(lake, output, 1)
    add(lake, "z-new.parquet", 2)
    assert share(lake, output, 2).state == "finished"
    found = contents(LocalStorage(output))
    assert found.pop(frozen_name(UID))
    assert found == contents(LocalStorage(tmp_path / "whole"))


def test_without_an_id_a_shard_can_be_nobodys_while_the_input_grows(
    lake: Lake, output: Path
) -> None:
    share(lake, output, 0, plan_id=None)
    add(lake, "a-new.parquet", 1000)
    for index in (1, 2):
        share(lake, output, index, plan_id=None)
    assert names(output) != {path.name for path in lake.shards.glob("*.parquet")}


def test_the_next_id_finds_what_is_new(lake: Lake, output: Path) -> None:
    for index in range(SHARES):
        share(lake, output, index)
    add(lake, "new.parquet", 4)
    for index in range(SHARES):
        share(lake, output, index, plan_id="tomorrow")
    assert "new.parquet" in names(output)
    assert_proven(LocalStorage(output))


def test_an_id_without_shares_freezes_too(lake: Lake, output: Path) -> None:
    assert score_here(lake.job(output, plan_id=UID, workers=1)).state == "finished"
    add(lake, "new.parquet", 4)
    assert score_here(lake.job(output, plan_id=UID, workers=1)).state == "finished"
    assert "new.parquet" not in names(output)
    assert_complete(output)


def test_an_id_is_no_part_of_the_job(lake: Lake, output: Path, tmp_path: Path) -> None:
    reports = [
        score_here(lake.job(tmp_path / "a", plan_id=UID, workers=1)),
        score_here(lake.job(tmp_path / "b", workers=1)),
    ]
    assert len({report.fingerprint for report in reports}) == 1
    assert len({report.plan_id for report in reports}) == 1


# Who was first


def test_who_comes_second_takes_what_the_first_has_frozen(
    lake: Lake, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thaw, asked = frozen.thaw, []

    def raced(storage: Any, plan_id: str, *share_of: int | None) -> Any:
        asked.append(plan_id)
        if len(asked) > 1:
            return thaw(storage, plan_id, *share_of)
        # Another run looks, freezes and ends, while this one goes on with nothing frozen.
        share(lake, output, 0)
        add(lake, "a-new.parquet", 1000)
        return None

    monkeypatch.setattr(frozen, "thaw", raced)
    share(lake, output, 1)
    monkeypatch.setattr(frozen, "thaw", thaw)
    share(lake, output, 2)
    assert names(output) == {f"s{i}.parquet" for i in range(4)}
    assert_complete(output)


def test_what_is_frozen_is_never_changed(lake: Lake, output: Path) -> None:
    share(lake, output, 0)
    before = (output / frozen_name(UID)).read_bytes()
    add(lake, "new.parquet", 4)
    share(lake, output, 0)
    share(lake, output, 1)
    assert (output / frozen_name(UID)).read_bytes() == before


def test_the_command_plan_freezes_nothing(lake: Lake, output: Path) -> None:
    preview.plan(lake.job(output, plan_id=UID), with_model=False)
    assert not output.exists() or list(output.rglob("*.json")) == []


def test_another_jobs_output_gets_no_listing(lake: Lake, output: Path) -> None:
    score_here(lake.job(output, workers=1))
    lake.model.write_bytes(b"another")
    with pytest.raises(OutputMismatchError):
        share(lake, output, 0)
    assert not (output / frozen_name(UID)).exists()


# An input that is no longer what was frozen


@pytest.fixture
def of_the_last(lake: Lake, tmp_path: Path) -> int:
    """Which share has the shard s3."""
    return owner(lake, tmp_path / "aside", "s3.parquet")


def test_a_shard_that_has_changed_is_refused(lake: Lake, output: Path, of_the_last: int) -> None:
    share(lake, output, (of_the_last + 1) % SHARES)
    add(lake, "s3.parquet", 50)
    report = share(lake, output, of_the_last)
    assert report.state != "finished"
    assert errors(report) == {"s3.parquet": "the shard has changed since the plan was frozen"}
    assert "s3.parquet" not in names(output)


def test_a_shard_that_is_gone_is_missed(lake: Lake, output: Path, of_the_last: int) -> None:
    share(lake, output, (of_the_last + 1) % SHARES)
    (lake.shards / "s3.parquet").unlink()
    report = share(lake, output, of_the_last)
    assert report.state != "finished"
    assert list(errors(report)) == ["s3.parquet"]


def test_a_shard_that_is_gone_after_it_was_scored_is_not_missed(
    lake: Lake, output: Path, of_the_last: int
) -> None:
    share(lake, output, of_the_last)
    (lake.shards / "s3.parquet").unlink()
    reports = [share(lake, output, index) for index in range(SHARES)]
    assert {report.state for report in reports} == {"finished"}
    assert (output / "_SUCCESS").exists()


def test_a_file_that_could_not_be_read_fails_its_share_also_when_it_is_mended(
    lake: Lake, output: Path
) -> None:
    (lake.shards / "bad.parquet").write_bytes(b"no Parquet file")
    first = [share(lake, output, index) for index in range(SHARES)]
    assert listed(output)["unreadable"] == ["bad.parquet"]
    add(lake, "bad.parquet", 3)
    second = [share(lake, output, index) for index in range(SHARES)]
    for reports in (first, second):
        assert [list(errors(report)) for report in reports].count(["bad.parquet"]) == 1
        assert sum(report.state == "finished" for report in reports) == SHARES - 1
    assert not (output / "_SUCCESS").exists()


@pytest.mark.parametrize("damage", ["no plan", "another plan", "no JSON", "a list"])
def test_a_listing_that_is_damaged_is_refused(damage: str, lake: Lake, output: Path) -> None:
    share(lake, output, 0)
    plan = output / plan_name(listed(output)["plan"])
    if damage == "no plan":
        plan.unlink()
    elif damage == "another plan":
        plan.write_bytes(plan.read_bytes().replace(b'"rows": 9', b'"rows": 8'))
    else:
        (output / frozen_name(UID)).write_text({"no JSON": "{", "a list": "[]"}[damage])
    with pytest.raises(OutputMismatchError, match=f"{UID} is damaged or gone"):
        share(lake, output, 1)


# What it costs


def test_the_shards_of_other_shares_are_not_opened(
    lake: Lake, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(lake, output, 0)
    opened: list[str] = []
    open_input = LocalStorage.open_input

    def counted(self: LocalStorage, name: str) -> Any:
        opened.append(f"{self.url}/{name}")
        return open_input(self, name)

    monkeypatch.setattr(LocalStorage, "open_input", counted)
    before = names(output)
    share(lake, output, 1)
    ours = {f"{lake.shards}/{name}" for name in names(output) - before}
    assert ours
    assert {path for path in opened if path.startswith(str(lake.shards))} == ours


@pytest.mark.parametrize("index", range(SHARES))
def test_what_is_in_no_listing_is_counted_whoever_asks(
    lake: Lake, output: Path, index: int
) -> None:
    (lake.shards / "bad.parquet").write_bytes(b"no Parquet file")
    share(lake, output, 0)
    for name in ("a.parquet", "s1a.parquet", "z.parquet"):
        (output / name).write_bytes(b"of another input")
    job = lake.job(output, shard_index=index, shard_count=SHARES, plan_id=UID)
    document, _ = preview.plan(job, with_model=False)
    assert document["other_files"] == 3
    assert document["rows"]["total"] == 9 + 7 + 5 + 3


def test_the_work_of_a_share_is_told_of_as_what_it_has(lake: Lake, output: Path) -> None:
    share(lake, output, 0)
    left = {path.name for path in lake.shards.glob("*.parquet")} - names(output)
    told: list[int] = []
    for index in (1, 2):
        job = lake.job(output, shard_index=index, shard_count=SHARES, plan_id=UID)
        work: list[int] = []
        survey.survey(job, lambda shards, _bytes, work=work: work.append(shards))
        assert work[0] == work[-1]
        told.append(work[0])
    assert sum(told) == len(left)


# Ids


@pytest.mark.parametrize("plan_id", ["a", UID, "2026-01-31", "a" * 63, "a..b"])
def test_an_id_is_part_of_a_files_name(plan_id: str) -> None:
    job = Job(model="m", input=("i",), output="o", plan_id=plan_id)
    assert frozen_name(job.plan_id or "") == f"_shardscore/frozen/{plan_id}.json"


@pytest.mark.parametrize(
    "plan_id", ["", "A", "..", "../x", "a/b", ".a", "a-", "a" * 64, "a\n", "ä", "a b", "a\0"]
)
def test_what_could_lead_elsewhere_is_no_id(plan_id: str) -> None:
    with pytest.raises(ValidationError):
        Job(model="m", input=("i",), output="o", plan_id=plan_id)
