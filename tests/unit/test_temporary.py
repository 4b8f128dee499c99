"""Temporary files where there is no room for them: an error that says so, and no bug."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import StorageError
from pipeline.storage.scratch import scratch
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All candidates are one folder in which root cannot make a file either."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/self"])


def test_it_is_the_folder_that_tmpdir_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary_folder() == str(tmp_path)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("ask", [temporary_folder, scratch])
def test_without_one_the_error_says_what_to_do(ask: object) -> None:
    with pytest.raises(StorageError, match="no folder for temporary files") as raised:
        ask()  # type: ignore[operator]
    assert "/proc/self" in str(raised.value)
    assert "TMPDIR" in (raised.value.hint or "")
