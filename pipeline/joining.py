"""Joining Parquet files without decoding them: their row groups end to end, below one footer.

PURE, on footers: bytes are moved by `pipeline.stitching`. A row group's bytes do not depend on
where they lie, and a footer names places by their distance from the start of the file, so a joined
file is the bytes of the parts' row groups and a footer whose places are shifted. Written so, a file
is the same bytes as if one writer had written all of its row groups.

Source of the field numbers: `parquet.thrift` of the Parquet format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import thrift
from pipeline.errors import CorruptShardError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"PAR1"

_NUM_ROWS, _ROW_GROUPS, _KEY_VALUES = 3, 4, 5
_GROUP_COLUMNS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 5, 7
_CHUNK_OFFSETS = (2, 4, 6)  # the chunk's own, of its offset index, of its column index
_CHUNK_META = 3
_META_OFFSETS = (9, 10, 11, 14)  # data page, index page, dictionary page, bloom filter
_OUR_NOTES = b"shardscore"


class JoinedFooter:
    """The footer of a file made of several files' row groups, taken one file after another.

    Of each file only its row groups' encoded bytes are kept: there may be thousands of files.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._groups: list[bytes] = []
        self._last = thrift.Struct([])

    def add(self, footer: bytes, shift: int) -> None:
        """Takes a file.

        Args:
            footer: Its footer.
            shift: The bytes by which its row groups move towards the end of the file.

        Raises:
            CorruptShardError: The footer does not decode.
        """
        read = thrift.decode(footer)
        for group in read.get(_ROW_GROUPS).values:
            _shift(group, shift, ordinal=len(self._groups))
            self._groups.append(thrift.encode(group))
        self._rows += read.get(_NUM_ROWS)
        pairs = read.get(_KEY_VALUES)
        if pairs is None:
            raise CorruptShardError("a footer without a note")
        pairs.values = [pair for pair in pairs.values if not pair.get(1).startswith(_OUR_NOTES)]
        self._last = read

    def encoded(self, notes: Mapping[bytes, bytes]) -> bytes:
        """The bytes between the last row group and the end of the file.

        Args:
            notes: Key-value metadata, in place of all whose keys begin with `shardscore`.
        """
        whole = self._last
        whole.put(_NUM_ROWS, self._rows)
        whole.put(_ROW_GROUPS, thrift.Encoded(thrift.STRUCT, self._groups))
        others = whole.get(_KEY_VALUES).values
        whole.put(
            _KEY_VALUES, thrift.Sequence(thrift.STRUCT, [*map(_pair, notes.items()), *others])
        )
        data = thrift.encode(whole)
        return data + len(data).to_bytes(4, "little") + MAGIC


def _shift(group: thrift.Struct, shift: int, ordinal: int) -> None:
    _move(group, _GROUP_OFFSET, shift)
    if group.get(_GROUP_ORDINAL) is not None:
        group.put(_GROUP_ORDINAL, ordinal)
    for chunk in group.get(_GROUP_COLUMNS).values:
        for number in _CHUNK_OFFSETS:
            _move(chunk, number, shift)
        for number in _META_OFFSETS:
            _move(chunk.get(_CHUNK_META), number, shift)


def _move(struct: thrift.Struct, number: int, shift: int) -> None:
    # 0 is no place, but what writers put where the format has lost interest in a place.
    if place := struct.get(number):
        struct.put(number, place + shift)


def _pair(item: tuple[bytes, bytes]) -> thrift.Struct:
    return thrift.Struct(
        [thrift.Field(i, thrift.BINARY, text) for i, text in enumerate(item, start=1)]
    )
