"""Pages that are not what the footer says of their chunk, one lie at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline import thrift
from pipeline.page_headers import Chunk, PageError, check_pages, whole_reader

DATA, INDEX, DICTIONARY, DATA_V2 = 0, 1, 2, 3
FIELD_OF_KIND = {DATA: 5, INDEX: 6, DICTIONARY: 7, DATA_V2: 8}


def struct_of(numbers: dict[int, Any]) -> thrift.Struct:
    kinds = {int: thrift.I32, bytes: thrift.BINARY, thrift.Struct: thrift.STRUCT}
    return thrift.Struct(
        [thrift.Field(n, kinds[type(value)], value) for n, value in sorted(numbers.items())]
    )


@dataclass(frozen=True)
class Page:
    """A page, as its header tells it: `of_kind` is None where it says nothing of its content."""

    kind: int = DATA
    body: bytes = b"body"
    of_kind: dict[int, int] | None = None
    unpacked: int | None = 4
    packed: int | None = None
    statistics: bytes = b""

    def encoded(self) -> bytes:
        told: dict[int, Any] = {1: self.kind}
        if self.unpacked is not None:
            told[2] = self.unpacked
        told[3] = len(self.body) if self.packed is None else self.packed
        if self.of_kind is not None:
            content: dict[int, Any] = dict(self.of_kind)
            if self.statistics:
                content[9] = struct_of({1: self.statistics})
            told[FIELD_OF_KIND.get(self.kind, 5)] = struct_of(content)
        return thrift.encode(struct_of(told)) + self.body


def values(count: int) -> dict[int, int]:
    return {1: count, 2: 0, 3: 3, 4: 3}


def version_2(count: int, nulls: int, rows: int, *levels: int) -> dict[int, int]:
    definition, repetition = levels
    return {1: count, 2: nulls, 3: rows, 4: 0, 5: definition, 6: repetition}


def run_of(count: int, level: int) -> bytes:
    """Levels of one bit that are all the same, as a run's length and the level."""
    return bytes([count << 1, level])


def check(*pages: Page, behind: bytes = b"", **facts: Any) -> None:
    data = b"".join(page.encoded() for page in pages)
    told = {
        "start": 0,
        "stop": len(data),
        "values": 3,
        "rows": 3,
        "uncompressed_bytes": 1000,
        "compressed": False,
        "max_definition": 1,
        "max_repetition": 0,
    }
    check_pages(whole_reader(data + behind), Chunk(**{**told, **facts}))


SOUND = Page(of_kind=values(3))
LEVELS = run_of(3, 1)
SOUND_2 = Page(DATA_V2, LEVELS + b"12", version_2(3, 0, 3, 2, 0))


def test_sound_pages_pass() -> None:
    check(SOUND)
    check(SOUND_2)
    check(Page(DICTIONARY, of_kind={1: 1, 2: 0}), Page(INDEX, of_kind={}), SOUND)
    check(Page(of_kind=values(1)), replace(SOUND, of_kind=values(2)))
    check(Page(DATA_V2, LEVELS + b"1234567", version_2(3, 0, 3, 2, 0), 50), compressed=True)


def test_a_header_of_long_texts_is_read_to_its_end() -> None:
    check(Page(of_kind=values(3), statistics=b"x" * 5000))


def test_a_levels_run_may_be_packed_in_eights() -> None:
    packed = bytes([(1 << 1) | 1, 0b111])
    check(Page(DATA_V2, packed + b"12", version_2(3, 0, 3, 2, 0)))


def test_rows_of_lists_are_fewer_than_their_values() -> None:
    levels = run_of(3, 0) + run_of(3, 1)
    page = Page(DATA_V2, levels, version_2(3, 0, 2, 2, 2))
    check(page, rows=2, max_repetition=1)


LIES: dict[str, tuple[Page, dict[str, Any], str]] = {
    "fewer values": (Page(of_kind=values(2)), {}, "pages of 2 values; the footer says 3"),
    "more values": (Page(of_kind=values(4)), {}, "pages of 4 values; the footer says 3"),
    "more bytes than the chunk": (replace(SOUND, packed=5), {}, "more than the column has"),
    "more bytes than it unpacks to": (replace(SOUND, unpacked=1001), {}, "more than the column"),
    "a negative size": (replace(SOUND, packed=-1), {}, "a page of -1 bytes"),
    "no size": (replace(SOUND, unpacked=None), {}, "no page begins at byte 0"),
    "packed in an unpacked column": (replace(SOUND, unpacked=9), {}, "4 bytes that unpack to 9"),
    "no content": (Page(), {}, "does not say what it holds, at byte 0"),
    "content of no number": (Page(of_kind={2: 0}), {}, "does not say what it holds"),
    "a negative number": (Page(of_kind=values(-3)), {}, "does not say what it holds"),
    "an unknown type": (Page(7, of_kind=values(3)), {}, "a page of unknown type 7"),
    "no numbers of version 2": (
        replace(SOUND_2, of_kind={1: 3, 3: 3}),
        {},
        "does not say what it holds",
    ),
    "more nulls than values": (
        replace(SOUND_2, of_kind=version_2(3, 4, 3, 2, 0)),
        {},
        "3 values, 4 nulls and 3 rows",
    ),
    "fewer rows where there are no lists": (
        replace(SOUND_2, of_kind=version_2(3, 0, 2, 2, 0)),
        {},
        "3 values, 0 nulls and 2 rows",
    ),
    "other rows than the footer": (
        replace(SOUND_2, body=run_of(3, 0) + LEVELS, of_kind=version_2(3, 0, 2, 2, 2)),
        {"max_repetition": 1},
        "pages of 2 rows; the footer says 3",
    ),
    "levels that are longer than the page": (
        replace(SOUND_2, of_kind=version_2(3, 0, 3, 5, 0)),
        {},
        "levels of 5 bytes in a page of 4",
    ),
    "levels of fewer values": (
        replace(SOUND_2, body=run_of(2, 1) + b"12"),
        {},
        "levels that end before or after their 2 bytes",
    ),
    "levels that end within their run": (
        replace(SOUND_2, body=b"\x80\x80" + b"12"),
        {},
        "levels that end before or after",
    ),
    "a run of nothing": (
        replace(SOUND_2, body=b"\0\0" + b"12"),
        {},
        "levels that end before or after",
    ),
    "levels where none are wanted": (
        SOUND_2,
        {"max_definition": 0},
        "levels that end before or after",
    ),
}


@pytest.mark.parametrize(("page", "facts", "said"), LIES.values(), ids=LIES)
def test_a_lie_is_told(page: Page, facts: dict[str, Any], said: str) -> None:
    # A page whose size was changed alone keeps its body, so its length says nothing.
    if page.of_kind and page.kind == DATA_V2 and page.unpacked == 4:
        page = replace(page, unpacked=len(page.body))
    with pytest.raises(PageError, match=said):
        check(page, **facts)


def test_pages_without_values_are_walked_so_far_and_no_further() -> None:
    with pytest.raises(PageError, match="more than 64 pages without a value"):
        check(*[Page(of_kind=values(0))] * 65, SOUND)
    check(*[Page(of_kind=values(0))] * 64, SOUND)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x15", b"\xff" * 200, SOUND.encoded()[:6]],
    ids=["nothing", "a cut header", "another kind of data", "a header without its end"],
)
def test_where_no_page_begins_is_told(data: bytes) -> None:
    chunk = Chunk(0, 100, 3, 3, 1000, compressed=False, max_definition=0, max_repetition=0)
    with pytest.raises(PageError, match="no page begins at byte 0"):
        check_pages(whole_reader(data), chunk)
