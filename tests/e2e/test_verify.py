"""Verify on what `score` has really written: proven, damaged, unfinished, repaired."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import environment, run_command
from tests.e2e.lake import shard

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Finished, FlightsRun


def test_a_year_of_flights_is_proven_row_for_row_without_tensorflow(
    flights_run: FlightsRun,
) -> None:
    code = (
        "import sys\nfrom jobs.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print([m for m in ('tensorflow', 'keras') if m in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", flights_run.output],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "42 of 42 published" in done.stdout
    assert "42 shards compared row for row" in done.stdout
    assert "verdict:  proven" in done.stdout


def verify(cli: Any, tmp_path: Path, *more: object) -> Finished:
    done: Finished = cli("verify", tmp_path / "out", *more)
    return done


@pytest.fixture
def bad_lake(lake: Path) -> Path:
    """The second shard has rows that cannot be scored; the third has none at all."""
    shard(lake / "2.parquet", a=pa.array([1.0, None, 3.0] * 3 + [None], pa.float32()))
    shard(lake / "3.parquet", rows=0)
    return lake


@pytest.mark.parametrize("policy", ["quarantine", "null"])
@pytest.mark.parametrize("keep", ["unused", "all", "none", "i*"])
def test_what_score_has_written_is_proven(
    policy: str, keep: str, score: Any, cli: Any, bad_lake: Path, tmp_path: Path
) -> None:
    assert score(**{"on-bad-row": policy, "keep": keep}).code == 0
    done = verify(cli, tmp_path, "--json")
    assert done.code == 0, done.out
    assert done.document["shards"]["compared"] == 3
    assert done.document["rows"]["in"] == 20
    assert done.document["inputs"] == [str(bad_lake)]
    assert done.document["success"] is True


SCHEMA = {
    "format": int,
    "output": str,
    "ok": bool,
    "fingerprint": str,
    "plan_id": str,
    "quick": bool,
    "shards": dict,
    "rows": dict,
    "bytes": int,
    "inputs": list,
    "input_note": str,
    "in_progress": dict,
    "success": bool,
    "wrong": list,
    "unfinished": list,
    "notes": list,
    "repaired": list,
}


def test_the_document_has_its_schema_and_damage_is_65(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    path = tmp_path / "out" / "2.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 4
    path.write_bytes(bytes(data))
    done = verify(cli, tmp_path, "--json")
    assert done.code == 65
    assert {name: type(value) for name, value in done.document.items()} == SCHEMA
    (wrong,) = done.document["wrong"]
    assert (wrong["file"], wrong["what"]) == ("2.parquet", "data is damaged")
    shown = verify(cli, tmp_path, "--no-input")
    assert shown.code == 65
    assert "2.parquet  data is damaged" in shown.out
    assert "not looked at: not asked for" in shown.out
    assert verify(cli, tmp_path, "--quick").code == 0
    # What the text says to do, done.
    path.unlink()
    assert verify(cli, tmp_path).code == 65
    assert score().code == 0
    assert verify(cli, tmp_path).code == 0


def test_a_new_shard_is_not_finished_and_score_finishes_it(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    before = (tmp_path / "out" / "_SUCCESS").read_bytes()
    shard(lake / "4.parquet")
    done = verify(cli, tmp_path)
    assert done.code == 65
    assert "4.parquet  new shard" in done.out
    assert score().code == 0
    assert verify(cli, tmp_path).code == 0
    assert (tmp_path / "out" / "_SUCCESS").read_bytes() != before


def test_a_run_that_has_work_takes_success_away_and_a_failed_shard_keeps_it_away(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    shard(lake / "4.parquet")
    shard(lake / "5.parquet", a=None)
    assert score().code == 65
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert not (tmp_path / "out" / "_MANIFEST.json").exists()
    done = verify(cli, tmp_path, "--no-input", "--json")
    assert done.code == 65
    assert [row["what"] for row in done.document["unfinished"]] == ["failed"]
    (lake / "5.parquet").unlink()
    assert score().code == 0
    assert verify(cli, tmp_path).code == 0


def test_marks_that_were_lost_are_written_by_score_and_by_repair(
    score: Any, cli: Any, tmp_path: Path
) -> None:
    assert score().code == 0
    marks = [tmp_path / "out" / name for name in ("_MANIFEST.json", "_SUCCESS")]
    before = [path.read_bytes() for path in marks]
    for again in (lambda: score(), lambda: verify(cli, tmp_path, "--repair")):
        for path in marks:
            path.unlink()
        assert again().code == 0
        assert [path.read_bytes() for path in marks] == before


@pytest.mark.parametrize("name", ["_MANIFEST.json", "_SUCCESS"])
def test_marks_that_cannot_be_written_are_74_and_the_next_run_writes_them(
    name: str, score: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import StorageError
    from pipeline.storage import LocalStorage

    replace = LocalStorage.replace

    def full(self: LocalStorage, wanted: str, data: bytes) -> None:
        if wanted == name:
            raise StorageError("storage failed: No space left on device", path=wanted)
        replace(self, wanted, data)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "replace", full)
        for _ in range(2):  # the second run finds nothing else to do
            done = score()
            assert done.code == 74
            assert name in done.err
            assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert score().code == 0
    assert verify(cli, tmp_path, "--json").document["success"] is True


def test_a_published_file_that_lost_its_dead_letters_ends_in_65_and_no_success(
    score: Any, cli: Any, bad_lake: Path, tmp_path: Path
) -> None:
    assert score(**{"on-bad-row": "quarantine"}).code == 0
    (tmp_path / "out/_shardscore/quarantine/2.parquet").unlink()
    (tmp_path / "out/_SUCCESS").unlink()
    done = score(**{"on-bad-row": "quarantine"})
    assert done.code == 65
    assert "no dead-letter file" in done.err
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_file_that_another_program_wrote_with_our_note_is_65(
    score: Any, cli: Any, tmp_path: Path
) -> None:
    assert score().code == 0
    path = tmp_path / "out" / "2.parquet"
    note = {b"shardscore": pq.read_metadata(path).metadata[b"shardscore"]}
    pq.write_table(
        pq.read_table(path).take(list(range(9, -1, -1))).replace_schema_metadata(note), path
    )
    done = verify(cli, tmp_path, "--json")
    assert done.code == 65
    found = {(row["file"], row["what"]) for row in done.document["wrong"]}
    assert ("2.parquet", "data is damaged") in found


def test_names_cannot_drive_the_terminal(score: Any, cli: Any, lake: Path, tmp_path: Path) -> None:
    name = "evil\x1b[31m\n.parquet"
    shard(lake / name)
    assert score().code == 0
    (tmp_path / "out" / name).write_bytes(b"x")
    done = verify(cli, tmp_path)
    assert done.code == 65
    assert "\x1b" not in done.out
    assert r"evil\x1b[31m\n.parquet" in done.out


def test_an_output_that_is_not_there_is_66(cli: Any, tmp_path: Path) -> None:
    done = cli("verify", tmp_path / "typo", "--json")
    assert done.code == 66
    assert done.out == ""
    assert "there is no output here" in done.err


@pytest.mark.parametrize(
    "options", [("--repair", "--quick"), ("--no-input", "--input", "lake")], ids=" ".join
)
def test_options_that_exclude_each_other_are_64(
    options: tuple[str, ...], cli: Any, tmp_path: Path
) -> None:
    done = cli("verify", tmp_path, *options)
    assert done.code == 64
    assert options[0] in done.err


def test_an_output_that_cannot_be_read_is_74(
    score: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score().code == 0
    from pipeline.errors import StorageError
    from pipeline.storage import LocalStorage

    def failing(self: LocalStorage, name: str) -> Any:
        raise StorageError("storage failed: Input/output error", path=f"{self.url}/{name}")

    monkeypatch.setattr(LocalStorage, "open_input", failing)
    assert verify(cli, tmp_path).code == 74


def test_verify_finds_the_input_from_another_folder(
    score: Any, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert score(input=os.path.relpath(lake, tmp_path)).code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run_command("verify", tmp_path / "out", "--json", cwd=elsewhere)
    assert (done.code, done.document["shards"]["compared"]) == (0, 3)


def test_status_shows_progress_and_success(
    score: Any, cli: Any, lake: Path, tmp_path: Path
) -> None:
    assert score().code == 0
    told = cli("status", tmp_path / "out", "--json").document
    assert (told["in_progress"], told["success"]) == ({}, True)
    folder = tmp_path / "out/_shardscore/checkpoints"
    for name, end in (("4.parquet", 64), ("1.parquet", 8)):  # the second one is published
        (folder / name).mkdir(parents=True)
        (folder / name / f"{0:012}-{end:012}.{0:032x}.parquet").write_bytes(b"x")
    (tmp_path / "out" / "_SUCCESS").unlink()
    told = cli("status", tmp_path / "out", "--json").document
    assert (told["in_progress"], told["success"]) == ({"4.parquet": 64}, False)
    assert json.loads(json.dumps(told)) == told
