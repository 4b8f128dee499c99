"""What the kernel tells of a process's memory, and what is known where it does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import memory


def test_memory_is_told_by_the_kernel() -> None:
    assert 0 < memory.resident_bytes() <= memory.peak_bytes()


@pytest.mark.parametrize("told", [None, "Name:\tpython\nThreads:\t1\n"], ids=["no file", "no line"])
def test_where_the_kernel_does_not_tell_the_peak_is_still_known(
    told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    if told is not None:
        status.write_text(told)
    monkeypatch.setattr(memory, "_STATUS", status)
    assert memory.resident_bytes() == 0
    assert memory.peak_bytes() > 1 << 20


def test_a_peak_counts_anew_where_the_kernel_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "clear_refs")
    assert memory.reset_peak()
    monkeypatch.setattr(memory, "_RESET", tmp_path)  # a folder, which nothing is written to
    assert not memory.reset_peak()


def test_another_c_library_has_no_heap_to_trim_or_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # not even asked for
    memory.share_one_heap()
    assert memory._trim() is None
