"""What only object stores do: conditions, parts, odd keys, servers that refuse or do not answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import (
    ConfigError,
    ContractError,
    NotFoundError,
    ShardscoreError,
    StorageError,
    UnavailableError,
    VersionChangedError,
)
from pipeline.storage import objects, storage_at
from pipeline.storage.buckets import bucket_at
from pipeline.storage.object_reader import ObjectReader
from pipeline.storage.objects import ObjectStorage
from tests.services import s3_client

MIB = 1 << 20


@pytest.fixture
def storage(s3: str) -> ObjectStorage:
    """The store itself, without retries."""
    return ObjectStorage(s3)


def names(storage: ObjectStorage) -> list[str]:
    return [info.name for info in storage.list()]


def put_raw(endpoint: str, folder: str, key: str, data: bytes = b"x") -> None:
    """Puts an object under exactly that key, by another client than ours."""
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    s3_client(endpoint).put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data)


# Publishing


@pytest.mark.parametrize("size", [0, 1, 64 * MIB, 64 * MIB + 1, 70 * MIB + 3])
def test_a_file_arrives_whole_however_it_is_sent(storage: ObjectStorage, size: int) -> None:
    piece = bytes(range(251)) * 40_000
    with storage.stage("a") as staged:
        with staged.path.open("wb") as file:
            for start in range(0, size, len(piece)):
                file.write(piece[: size - start])
        staged.publish()
    assert storage.info("a").size == size
    with storage.open_input("a") as there:
        for start in range(0, size, len(piece)):
            assert there.read(len(piece)) == piece[: size - start]
    assert names(storage) == ["a"]


def test_a_file_too_big_for_one_step_is_refused_before_it_is_sent(storage: ObjectStorage) -> None:
    with storage.stage("a") as staged:
        with staged.path.open("wb") as file:
            file.truncate(objects.LARGEST + 1)
        with pytest.raises(ContractError, match="too big") as caught:
            staged.publish()
    assert "split the shard" in (caught.value.hint or "")
    assert names(storage) == []


# Reading one version


@pytest.mark.parametrize("change", [b"n" * 1_000_000, None])
def test_an_object_that_changes_while_it_is_read_is_told(
    storage: ObjectStorage, change: bytes | None
) -> None:
    storage.create("a", b"o" * 1_000_000)
    with storage.open_input("a") as file:
        assert file.read(10) == b"o" * 10
        if change is None:
            storage.delete("a")
        else:
            storage.replace("a", change)
        file.seek(500_000)
        with pytest.raises(VersionChangedError) as caught:
            file.read(10)
    assert caught.value.path == f"{storage.url}/a"


def test_a_small_object_is_opened_and_read_by_one_request(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create("a", b"0123456789" * 1000)
    file = storage.open_input("a")
    monkeypatch.setattr(ObjectReader, "_fetched", None)
    assert file.read() == b"0123456789" * 1000


# Odd keys

ODD = ["odd//x.parquet", "odd/t\tb.parquet", "/lead.parquet"]
NO_PATHS = ["odd/../y.parquet", "odd/./z.parquet"]


@pytest.mark.parametrize("server", ["s3", "moto"])
def test_a_listing_tells_of_every_key_as_it_is(server: str, request: pytest.FixtureRequest) -> None:
    if server == "s3":
        # It takes an empty part away and refuses dots; what it holds is told all the same.
        folder, odd = request.getfixturevalue("s3"), ["odd/t\tb.parquet", "odd/n\nl.parquet"]
        endpoint = request.getfixturevalue("s3_server").endpoint
    else:
        folder, odd = request.getfixturevalue("moto_s3"), [*ODD, *NO_PATHS]
        endpoint = request.getfixturevalue("moto_endpoint")
    storage = ObjectStorage(folder)
    good = ["odd/100%/a b#c.parquet", "odd/good.parquet", "z.parquet"]
    for key in [*odd, *good]:
        put_raw(endpoint, folder, key)
    found = {info.name: info for info in storage.list()}
    assert sorted(found) == sorted([*odd, *good])
    for name in good:
        assert found[name] == storage.info(name)
    for name in odd:
        assert found[name].size == 1
        assert storage.refuses(name) is not None
        with pytest.raises(ShardscoreError, match=r"not a name|cannot hold"):
            storage.read(name)


@pytest.mark.parametrize("server", ["s3", "moto"])
def test_the_mark_of_an_empty_folder_is_no_object(
    server: str, request: pytest.FixtureRequest
) -> None:
    fixtures = {"s3": ("s3", "s3_server"), "moto": ("moto_s3", "moto_endpoint")}[server]
    folder, where = (request.getfixturevalue(name) for name in fixtures)
    endpoint = where if isinstance(where, str) else where.endpoint
    for key, data in {"empty/": b"", "d.parquet/": b"", "d.parquet/a": b"x", "none": b""}.items():
        put_raw(endpoint, folder, key, data)
    assert names(ObjectStorage(folder)) == ["d.parquet/a", "none"]


REFUSED = {
    "a\nb": "control character",
    "a\x7fb": "control character",
    "a\\b": "backslash",
    "a\udc80b": "UTF-8",
    "a//b": "empty",
    "../a": "`..`",
    "n" * 1025: "1024",
}


@pytest.mark.parametrize("name", REFUSED, ids=REFUSED.values())
def test_a_name_that_cannot_be_kept_to_the_letter_is_refused(s3: str, name: str) -> None:
    assert REFUSED[name] in (ObjectStorage(s3).refuses(name) or "")


def test_the_longest_key_counts_the_prefix(s3: str) -> None:
    storage = ObjectStorage(s3)
    room = 1024 - len(s3.removeprefix("s3://lake/")) - 1
    parts = "/".join(["n" * 200] * 6)
    assert storage.refuses(parts[:room]) is None
    assert storage.refuses(parts[: room + 1]) is not None


# Servers that refuse


def test_a_bucket_that_does_not_exist_is_told_apart_from_an_object(s3: str) -> None:
    storage = ObjectStorage("s3://no-such-bucket/a")
    for act in (
        lambda: names(storage),
        lambda: storage.create("a", b""),
        lambda: storage.read("a"),
    ):
        with pytest.raises(StorageError, match="no such bucket") as caught:
            act()
        assert type(caught.value) is StorageError


def test_wrong_credentials_are_no_reason_to_try_again(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    storage = ObjectStorage(s3)
    acts: list[Callable[[], object]] = [
        lambda: storage.read("a"),
        lambda: storage.info("a"),
        lambda: names(storage),
        lambda: storage.create("a", b""),
        lambda: storage.open_input("a"),
    ]
    for act in acts:
        with pytest.raises(StorageError, match="denied") as caught:
            act()
        assert type(caught.value) is StorageError
        assert "credentials" in (caught.value.hint or "")


# Servers that do not answer


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Starts a server that answers every request with the same bytes, and hangs up."""
    listeners: list[socket.socket] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answer(status: int, body: bytes = b"", length: int | None = None) -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n"
        'ETag: "x"\r\nLast-Modified: Tue, 24 Nov 2026 06:35:13 GMT\r\n'
        "Content-Range: bytes 0-99/100\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
TRANSIENT = {
    "nothing": b"",
    "a broken status line": b"HTTP/1.1 2",
    "internal error": answer(500),
    "bad gateway": answer(502),
    "unavailable": answer(503, SLOW_DOWN),
    "too many requests": answer(429),
    "request timeout": answer(400, b"<Error><Code>RequestTimeout</Code></Error>"),
    "a conflict": answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>"),
}


@pytest.mark.parametrize("reply", TRANSIENT.values(), ids=TRANSIENT)
def test_no_answer_and_try_later_are_unavailable(
    answering: Callable[[bytes], str], s3: str, monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering(reply))
    storage = ObjectStorage(s3)
    acts: list[Callable[[], object]] = [
        lambda: storage.create("a", b"abc"),
        lambda: storage.read("a"),
        lambda: storage.open_input("a"),
        lambda: names(storage),
    ]
    for act in acts:
        with pytest.raises(UnavailableError) as caught:
            act()
        assert str(caught.value.path).startswith(s3)


def test_an_answer_that_ends_early_is_unavailable_and_never_short_data(
    answering: Callable[[bytes], str], s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering(answer(206, b"abc", 100)))
    with pytest.raises(UnavailableError):
        ObjectStorage(s3).open_input("a").read()


def test_a_server_that_is_down_ends_in_an_error_within_bounded_time(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    began = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        storage_at(s3).read("a")
    assert time.monotonic() - began < 20
    assert "run again" in (caught.value.hint or "")


def test_no_credentials_at_all_is_told_in_words(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answering: Callable[[bytes], str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", answering(answer(403)))
    with pytest.raises(StorageError, match="no credentials"):
        ObjectStorage(s3).read("a")


# Reaching a bucket


def test_keys_of_a_profile_are_read_from_the_file_that_tools_share(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = nobody\n[work]\n"
        f"aws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    ObjectStorage(s3).create("a", b"abc")
    assert ObjectStorage(s3).read("a") == b"abc"


def test_one_bucket_has_one_client_however_many_folders_are_opened(s3: str) -> None:
    clients = {id(bucket_at(f"{s3}/{number}")[0].quick) for number in range(1000)}
    assert len(clients) == 1


@pytest.mark.parametrize(
    ("url", "name", "key"),
    [
        ("gs://bucket/a/b", "bucket", "a/b"),
        ("az://container/a/b", "container", "a/b"),
        ("abfss://container@account.dfs.core.windows.net/a/b", "container", "a/b"),
    ],
)
def test_other_clouds_are_reached_by_their_addresses(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str, key: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    bucket, found = bucket_at(url)
    assert (bucket.name, found) == (name, key)
    assert storage_at(url).url == url


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "gs://", "az://container/a"])
def test_an_address_that_cannot_be_reached_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError):
        ObjectStorage(url)


def test_what_is_not_there_is_not_found(storage: ObjectStorage) -> None:
    with pytest.raises(NotFoundError):
        storage.open_input("a")
