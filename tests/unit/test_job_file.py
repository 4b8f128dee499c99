"""Job files on the disk: read as text or refused, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StorageError, UsageError
from pipeline.job_file import read_text, refuse_existing, write_text


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job.toml"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("text", ["", "a = 1\r\nb = 'ü'\n", "no line break at its end"])
def test_a_text_is_read_as_it_was_written(text: str, job: Path) -> None:
    write_text(job, text, replace=False)
    assert read_text(job) == text
    assert left(job.parent) == ["job.toml"]


def test_what_is_not_there_has_no_text(job: Path) -> None:
    assert read_text(job) is None


def test_what_is_no_text_is_refused(job: Path) -> None:
    job.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML") as caught:
        read_text(job)
    assert caught.value.path == str(job)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


def test_what_is_there_is_replaced_only_if_that_was_said_and_keeps_its_mode(job: Path) -> None:
    job.write_text("mine")
    job.chmod(0o640)
    with pytest.raises(UsageError, match="there already"):
        write_text(job, "new", replace=False)
    assert (job.read_text(), left(job.parent)) == ("mine", ["job.toml"])
    write_text(job, "new", replace=True)
    assert (job.read_text(), job.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_link_that_leads_nowhere_is_there_too(job: Path) -> None:
    job.symlink_to(job.parent / "nowhere")
    for refused in (refuse_existing, lambda path: write_text(path, "new", replace=False)):
        with pytest.raises(UsageError, match="--force"):
            refused(job)
    assert left(job.parent) == ["job.toml"]


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(job: Path, tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("old")
    job.symlink_to("real.toml")
    write_text(job, "new", replace=True)
    assert job.is_symlink()
    assert (tmp_path / "real.toml").read_text() == "new"


def test_a_name_that_is_no_unicode_is_no_toml_and_leaves_nothing_behind(job: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        write_text(job, "model = 'm\udcff.keras'", replace=False)
    assert caught.value.received == "'\\udcff'"
    assert left(job.parent) == []


def test_a_folder_that_is_not_there_is_an_error_of_storage(job: Path) -> None:
    with pytest.raises(StorageError):
        write_text(job.parent / "no" / "job.toml", "new", replace=False)
