"""Listing a bucket: every object below a prefix, whatever its key looks like.

obstore gives up a listing at the first key that is no path to it: one with an empty part, with
`..`, or with a control character. Such objects must be told of, not end the listing. So where one
is met on S3, the bucket is listed again by pyarrow, which gives keys as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from pyarrow import fs

from pipeline.errors import StorageError
from pipeline.storage.base import ObjectInfo
from pipeline.storage.object_errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import ObjectMeta

    from pipeline.storage.buckets import Bucket

_ODD_KEY = "object with invalid path"
_PAGE = 1000


def described(meta: ObjectMeta, name: str) -> ObjectInfo:
    """What obstore says of an object.

    Times are whole seconds: a listing has fractions of them on some stores, a single object never.
    """
    seconds = int(meta["last_modified"].timestamp())
    return ObjectInfo(name, meta["size"], seconds * 10**9, meta["e_tag"])


def listed(bucket: Bucket, prefix: str, address: str) -> Iterator[ObjectInfo]:
    """The objects whose keys begin with a prefix that ends with `/` or is empty, in no order.

    What tools leave to make an empty folder (an object that ends with `/`) is none of them.
    """
    with translated(address):
        try:
            # Whole before the first is given: it may have to begin again.
            pages = bucket.quick.list(prefix or None, chunk_size=_PAGE)
            found = [described(meta, meta["path"]) for page in pages for meta in page]
        except BaseError as error:
            if _ODD_KEY not in str(error):
                raise
            found = list(_listed_exactly(bucket, prefix, address, error))
        for info in found:
            if info.size or info.etag is None or _is_there(bucket, info.name):
                yield info


def _is_there(bucket: Bucket, key: str) -> bool:
    # obstore lists the object `a/` as `a`: only asking for it tells.
    try:
        bucket.quick.head(key)
    except FileNotFoundError:
        return False
    return True


def _listed_exactly(
    bucket: Bucket, prefix: str, address: str, reason: BaseError
) -> Iterator[ObjectInfo]:
    if bucket.scheme != "s3":
        raise StorageError(
            "an object below the address has a key that is no path",
            path=address,
            received=str(reason).partition("\n\nDebug source:")[0],
            hint="rename or remove that object",
        ) from reason
    host = str(bucket.options.get("endpoint", ""))
    store = fs.S3FileSystem(
        access_key=bucket.options.get("access_key_id"),
        secret_key=bucket.options.get("secret_access_key"),
        session_token=bucket.options.get("session_token"),
        region=bucket.options["region"],
        endpoint_override=host.partition("://")[2].rstrip("/") or None,
        scheme="http" if host.startswith("http://") else "https",
    )
    below = fs.FileSelector(f"{bucket.name}/{prefix}".rstrip("/"), recursive=True)
    try:
        entries = store.get_file_info(below)
    except OSError as error:
        raise StorageError(
            "the listing failed", path=address, received=str(error), hint="run again"
        ) from error
    for entry in entries:
        if entry.type != fs.FileType.File:
            continue
        key = entry.path[len(bucket.name) + 1 :]
        try:
            yield described(bucket.quick.head(key), key)
        except (BaseError, ValueError, FileNotFoundError):
            seconds = entry.mtime_ns // 10**9
            yield ObjectInfo(key, entry.size, seconds * 10**9)
