"""Inputs in object stores: which objects below an address or glob are to be shards.

The rules are those of folders on a disk, with nothing but the protocol of a storage. A folder is
what keys have in common; so an empty one does not exist.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from typing import TYPE_CHECKING

from pipeline.errors import NotFoundError
from pipeline.inputs import (
    SUFFIXES,
    Found,
    hidden_input,
    no_shard_in,
    no_such_input,
    output_as_input,
)
from pipeline.storage import storage_at
from pipeline.storage.base import fault_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.storage import ObjectInfo

_ESCAPED = re.compile(r"\[([*?[])\]")


def remote_files(address: str, output: str) -> list[Found]:
    """The objects of an input that are to be shards.

    Args:
        address: An object, a folder or a glob.
        output: Address of the output; what lies in it is not input.

    Raises:
        NoInputError: There is nothing, or no Parquet file.
        UsageError: It is the output, or one object with a hidden name.
    """
    plain, output = address.rstrip("/"), output.rstrip("/")
    if plain == output:
        raise output_as_input(address)
    if not address.endswith("/") and (file := _single(plain)) is not None:
        return [file]
    below = list(storage_at(plain).list())
    if below or not glob.has_magic(address):
        root = plain
        wanted = [info for info in below if _is_shard(info.name)]
        if not below:
            raise no_such_input(address)
    else:
        root, wanted = _matching(plain)
    inside = f"{output}/"
    found = [_found(root, info) for info in wanted if not f"{root}/{info.name}".startswith(inside)]
    if not found:
        raise no_shard_in(address)
    return found


def _found(root: str, info: ObjectInfo) -> Found:
    return Found(root, info.name, info.name, info.size, info.mtime_ns, info.etag)


def _single(address: str) -> Found | None:
    """The object at an address, if there is one."""
    root, _, name = address.rpartition("/")
    if root.endswith("/") or fault_of(name) is not None:  # the bucket itself
        return None
    try:
        info = storage_at(root).info(name)
    except NotFoundError:
        return None
    if _is_hidden(name):
        raise hidden_input(address)
    return _found(root, info)


def _matching(pattern: str) -> tuple[str, list[ObjectInfo]]:
    """Where a glob's fixed part ends, and the objects below that it names."""
    scheme, _, rest = pattern.partition("://")
    place, *parts = rest.split("/")
    magic = [glob.has_magic(_ESCAPED.sub("", part)) for part in parts]
    fixed = magic.index(True) if any(magic) else len(parts) - 1
    root = "/".join([f"{scheme}://{place}", *(_ESCAPED.sub(r"\1", part) for part in parts[:fixed])])
    pattern_parts = parts[fixed:]
    found = []
    for info in storage_at(root).list():
        names = info.name.split("/")
        if _is_hidden(info.name):
            continue
        # As on a disk: a file that is named is taken as it is, of a folder what looks like a shard.
        named = _fits(names, pattern_parts)
        above = any(_fits(names[:depth], pattern_parts) for depth in range(1, len(names)))
        if named or (above and _is_shard(info.name)):
            found.append(info)
    return root, found


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a name fit the parts of a glob; `**` is any number of them."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return _fits(names, pattern[1:]) or (bool(names) and _fits(names[1:], pattern))
    return (
        bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
    )


def _is_shard(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    # A key can have `..` in it, which is no hidden folder but a fault to tell of.
    return any(part.startswith(("_", ".")) and part not in {".", ".."} for part in name.split("/"))
