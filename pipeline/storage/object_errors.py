"""Errors of obstore, translated once.

obstore tells most failures apart by text alone: its kinds are few, and a status or a code of the
server is only in the message. This is the one place that reads those messages.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError as Exists
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from pipeline.errors import AlreadyExistsError, NotFoundError, StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)

_TRY_LATER = {408, 429}
_TRY_LATER_CODES = {"RequestTimeout", "RequestTimeoutException", "SlowDown", "ServerBusy"}
_NO_ANSWER = ("HTTP error", "error sending request", "body error", "decoding", "timed out")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}
_METADATA_HOSTS = ("169.254.", "metadata.google.internal", "/latest/api/token")

_CREDENTIALS = "check the credentials in the environment, and what they may do there"


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turns obstore's errors into ours, naming the object.

    Raises:
        NotFoundError: There is no such object.
        AlreadyExistsError: A condition of the request did not hold.
        UnavailableError: No answer, or "try later".
        StorageError: All else, credentials and buckets that do not exist among it.
    """
    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise _ours(error, address) from error


def range_not_there(error: BaseException) -> bool:
    """Whether a server found no byte in a range, as of an empty object, or knows no such range."""
    text = str(error)
    return " 416 " in text or "does not support suffix" in text


def _ours(error: Exception, address: str) -> StorageError:
    text = str(error).partition("\n\nDebug source:")[0]
    status = int(found[1]) if (found := _STATUS.search(text)) else None
    code = found[1] if (found := _CODE.search(text)) else ""
    received = _summary(text, status, code)
    if code in _NO_BUCKET:
        return StorageError(
            "there is no such bucket",
            path=address,
            received=received,
            hint="check the address, or make the bucket",
        )
    if any(host in text for host in _METADATA_HOSTS):
        return StorageError(
            "no credentials for the storage were found",
            path=address,
            received=received,
            hint="set them in the environment, as for the tools of that cloud",
        )
    if status == 409:
        # Two writers at one moment: which of them wins is not decided yet.
        return UnavailableError("another writer is at it", path=address, received=received)
    if isinstance(error, (Exists, PreconditionError)):
        return AlreadyExistsError("already exists", path=address)
    if isinstance(error, FileNotFoundError):
        return NotFoundError("no such object", path=address)
    if status is None and any(sign in text for sign in _NO_ANSWER):
        return UnavailableError(
            "the storage does not answer",
            path=address,
            received=received,
            hint="check that it can be reached, then run again",
        )
    if status is not None and (status >= 500 or status in _TRY_LATER or code in _TRY_LATER_CODES):
        return UnavailableError(
            "the storage says: try later",
            path=address,
            received=received,
            hint="run again: it continues where it stopped",
        )
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status in {401, 403}:
        skewed = code == "RequestTimeTooSkewed"
        hint = "set this machine's clock" if skewed else _CREDENTIALS
        return StorageError("access is denied", path=address, received=received, hint=hint)
    return StorageError("storage failed", path=address, received=received)


def _summary(text: str, status: int | None, code: str) -> str:
    """The server's own words, on one line."""
    message = found[1] if (found := _MESSAGE.search(text)) else ""
    if code or message:
        return " ".join(f"{status or ''} {code}: {message}".split())
    return " ".join(text.partition("<?xml")[0].split()).rstrip(": ")
