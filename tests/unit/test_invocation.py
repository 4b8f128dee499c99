"""How a command was called for: what was typed, and no password."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.invocation import invocation, without_password


def test_what_was_typed_and_the_variables_that_are_options_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"SHARDSCORE_WORKERS": "2", "AWS_SECRET_ACCESS_KEY": "s3cret", "HOME": "/home/x"}
    found = invocation(["score", "--output", "my out"], environ)
    assert found.command == ("shardscore", "score", "--output", "my out")
    assert found.variables == (("SHARDSCORE_WORKERS", "2"),)
    assert found.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("http://me:s3cret@gateway:9091", "http://me:…@gateway:9091"),
        ("--pushgateway=https://:s3c@ret/@gateway/", "--pushgateway=https://:…@gateway/"),
        ("http://gateway:9091/metrics", "http://gateway:9091/metrics"),
        (
            "abfss://container@account.dfs.core.windows.net/f",
            "abfss://container@account.dfs.core.windows.net/f",
        ),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("--features=age", "--features=age"),
    ],
)
def test_a_password_in_an_address_is_left_out(word: str, kept: str) -> None:
    assert without_password(word) == kept
    assert invocation([word], {"SHARDSCORE_X": word}).variables == (("SHARDSCORE_X", kept),)


def test_a_folder_that_has_gone_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert invocation(["score"], {}).folder == ""
