"""Results in order, made in threads where that helps."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from pipeline.storage import storage_at
from pipeline.storage.at_hand import is_at_hand, is_at_hand_in
from pipeline.storage.local import LocalStorage
from pipeline.threads import in_chunks, in_threads

if TYPE_CHECKING:
    from pathlib import Path


def test_results_have_the_order_of_their_items_whoever_makes_them() -> None:
    found = list(in_threads(str, range(100), 3, at_once=lambda n: n % 7 < 3))
    assert found == [str(n) for n in range(100)]


def test_what_is_at_once_is_done_by_the_thread_that_asks() -> None:
    here = threading.get_ident()

    def who(_item: int) -> int:
        return threading.get_ident()

    found = list(in_threads(who, range(40), 3, at_once=lambda n: n < 20))
    assert set(found[:20]) == {here}
    assert here not in found[20:]
    assert set(in_chunks(who, range(40), 3, 8, at_once=lambda _: True)) == {here}


def test_an_error_comes_when_its_turn_has_come() -> None:
    def one(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    found = in_threads(one, range(10), 2, at_once=lambda _: True)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(found)


def test_items_are_taken_no_further_ahead_than_their_results_are_asked_for() -> None:
    taken: list[int] = []

    def items() -> object:
        for n in range(100):
            taken.append(n)
            yield n

    found = in_threads(str, items(), 2, at_once=lambda _: True)  # type: ignore[arg-type]
    next(found)
    assert len(taken) <= 8


def test_a_chunk_is_done_as_its_first_item_is() -> None:
    asked: list[int] = []

    def at_once(item: int) -> bool:
        asked.append(item)
        return True

    assert list(in_chunks(str, range(10), 2, 4, at_once=at_once)) == [str(n) for n in range(10)]
    assert asked == [0, 4, 8]


@pytest.mark.parametrize(
    ("answer", "known"),
    [(8, True), (0, False), (BlockingIOError(), False), (OSError(errno.EOPNOTSUPP, "no"), False)],
)
def test_a_file_is_at_hand_if_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | OSError, known: bool
) -> None:
    asked: list[tuple[int, int]] = []

    def preadv(_file: int, _buffers: object, offset: int, flags: int) -> int:
        asked.append((offset, flags))
        if isinstance(answer, OSError):
            raise answer
        return answer

    (tmp_path / "x.parquet").write_bytes(b"x" * 10_000)
    monkeypatch.setattr(os, "preadv", preadv)
    assert is_at_hand(tmp_path / "x.parquet") is known
    assert asked == [(9_992, os.RWF_NOWAIT)]


def test_the_files_of_a_disk_are_asked_for_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.parquet").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "preadv", lambda *_: 8)
    assert is_at_hand_in(LocalStorage(tmp_path), "x.parquet")
    assert not is_at_hand_in(LocalStorage(tmp_path), "y.parquet")


def test_what_is_no_file_is_not_at_hand_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("pipe", "empty", "link", "missing", "."):
        assert not is_at_hand(tmp_path / name)
    assert not is_at_hand("a\0b")


def test_an_object_of_a_store_is_never_at_hand() -> None:
    assert not is_at_hand_in(storage_at("s3://bucket/x"), "x.parquet")
