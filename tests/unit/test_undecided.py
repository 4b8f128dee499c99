"""What is left to decide in a job file is told with the refusal, all of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobs.undecided import undecided

if TYPE_CHECKING:
    from pathlib import Path

DRAFT = """\
model = "m.keras"
# DECIDE: may these be rounded? They are doubles
# allow_lossy = ["*"]

[inputs]
# DECIDE: which column feeds it? built is a guess, by its name
#   or, since their types fit as well: id = 3
# year = "built"
# DECIDE: which column feeds it?
"my area" = "area"
# a remark
# DECIDE: are these its columns?
# "a = b" = [
#   "x",
# ]
"""


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "job.toml"
    path.write_text(DRAFT)
    return str(path)


def test_each_open_question_is_named_with_its_line(job: str) -> None:
    told = f"{job} leaves to you, at its lines marked DECIDE: "
    told += 'allow_lossy (line 3), year (line 8), "a = b" (line 13)'
    assert undecided(65, ["plan", "--config", job]) == told
    assert undecided(78, ["score", f"--config={job}"]) == told
    assert undecided(78, ["score"], {"SHARDSCORE_CONFIG": job}) == told


@pytest.mark.parametrize("code", [0, 64, 130])
def test_other_ends_have_nothing_to_do_with_it(code: int, job: str) -> None:
    assert undecided(code, ["plan", "-c", job]) is None


def test_what_is_decided_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("# DECIDE: which?\nyear = 'built'\n# keep = []\n")
    for argv in (["-c", str(tmp_path / "job.toml")], ["-c", str(tmp_path / "none")], ["-c"], []):
        assert undecided(78, ["plan", *argv], {}) is None


def test_init_itself_tells_it_in_another_way(job: str) -> None:
    assert undecided(78, ["init", "--config", job]) is None
