"""From the address of a bucket to clients that reach it, with what the environment says.

Owns how each cloud is reached: credentials, endpoints and limits of time come from the variables
that the cloud's own tools read. Clients are kept, one pair a bucket: a hundred thousand shards
must not open a hundred thousand of them. Their own retries are off, since `retry` decides.
"""

from __future__ import annotations

import configparser
import functools
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    Client = S3Store | GCSStore | AzureStore

SCHEMES = ("s3", "gs", "az", "abfss")

_CONNECT = timedelta(seconds=5)
_ANSWER = timedelta(seconds=15)
"""For all that moves a few MiB at most."""
_TRANSFER = timedelta(minutes=30)
"""For whole files on their way up, and for copies made by the server."""

_NO_RETRIES: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(0)}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket or container, and the clients that reach it.

    Attributes:
        scheme: Of its address.
        name: Its name.
        quick: Answers within seconds, or not at all.
        patient: Takes as long as a whole file takes.
        options: What the clients were made with, for those who must make another.
    """

    scheme: str
    name: str
    quick: Client
    patient: Client
    options: dict[str, Any]


def bucket_at(url: str) -> tuple[Bucket, str]:
    """The bucket of an address, and the key that follows in it.

    Raises:
        ConfigError: The address names no bucket, or the environment does not say how to reach it.
    """
    scheme, _, rest = url.partition("://")
    place, _, key = rest.partition("/")
    if not place:
        raise ConfigError(
            "the address names no bucket", path=url, expected=f"{scheme}://BUCKET/FOLDER"
        )
    options = _OPTIONS[scheme](place)
    return _opened(scheme, place, tuple(sorted(options.items()))), key


@functools.lru_cache(maxsize=64)
def _opened(scheme: str, place: str, items: tuple[tuple[str, Any], ...]) -> Bucket:
    options = dict(items)
    make = {"s3": S3Store, "gs": GCSStore}.get(scheme, AzureStore)
    plain = str(options.get("endpoint", "")).startswith("http://")

    def client(timeout: timedelta) -> Client:
        client_options: ClientConfig = {"timeout": timeout, "connect_timeout": _CONNECT}
        if plain:
            client_options["allow_http"] = True
        made: Client = make(client_options=client_options, retry_config=_NO_RETRIES, **options)
        return made

    try:
        quick, patient = client(_ANSWER), client(_TRANSFER)
    except (BaseError, ValueError, OSError) as error:
        raise ConfigError(
            "the environment does not say how to reach the storage",
            path=f"{scheme}://{place}",
            received=str(error).partition("\n")[0],
            hint=_HINTS[scheme],
        ) from error
    name = options.get("bucket") or options["container_name"]
    return Bucket(scheme, name, quick, patient, options)


_AZURE_HINT = (
    "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or write "
    "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER"
)
_HINTS = {
    "s3": "check the AWS_* variables",
    "gs": "check GOOGLE_APPLICATION_CREDENTIALS",
    "az": _AZURE_HINT,
    "abfss": _AZURE_HINT,
}


def _first_set(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _known(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _s3(bucket: str) -> dict[str, Any]:
    # All else (roles, web identities, what a machine is given) the client reads by itself.
    return _known(
        bucket=bucket,
        endpoint=_first_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=_first_set("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1",
        **_s3_keys(),
    )


_OTHER_AWS_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _s3_keys() -> dict[str, Any]:
    """Keys from the environment, or from the file that AWS' own tools share."""
    if _first_set("AWS_ACCESS_KEY_ID"):
        return _known(
            access_key_id=_first_set("AWS_ACCESS_KEY_ID"),
            secret_access_key=_first_set("AWS_SECRET_ACCESS_KEY"),
            session_token=_first_set("AWS_SESSION_TOKEN"),
        )
    if _first_set(*_OTHER_AWS_CREDENTIALS):
        return {}
    path = _first_set("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    profiles = configparser.RawConfigParser()
    try:
        profiles.read(Path(path).expanduser(), encoding="utf-8")
        profile = dict(profiles[_first_set("AWS_PROFILE") or "default"])
    except (KeyError, OSError, RuntimeError, ValueError, configparser.Error):
        return {}
    return _known(
        access_key_id=profile.get("aws_access_key_id"),
        secret_access_key=profile.get("aws_secret_access_key"),
        session_token=profile.get("aws_session_token"),
    )


def _gs(bucket: str) -> dict[str, Any]:
    return _known(
        bucket=bucket, application_credentials=_first_set("GOOGLE_APPLICATION_CREDENTIALS")
    )


def _azure(place: str) -> dict[str, Any]:
    container, at, host = place.partition("@")
    return _known(
        container_name=container,
        account_name=host.partition(".")[0]
        if at
        else _first_set("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        account_key=_first_set("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        sas_token=_first_set("AZURE_STORAGE_SAS_TOKEN"),
        endpoint=_first_set("AZURE_STORAGE_ENDPOINT"),
    )


_OPTIONS = {"s3": _s3, "gs": _gs, "az": _azure, "abfss": _azure}
