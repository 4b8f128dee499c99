"""Which storage serves an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.storage import LocalStorage, locate, storage_at
from pipeline.storage.locate import register
from pipeline.storage.memory import MemoryStorage
from pipeline.storage.retry import Retrying


def test_a_path_is_a_folder_on_the_disk(tmp_path: Path) -> None:
    assert isinstance(storage_at(str(tmp_path)), LocalStorage)


def test_object_stores_get_retries(s3: str) -> None:
    storage = storage_at(f"{s3}/")
    assert isinstance(storage, Retrying)
    assert storage.url == s3


def test_an_address_in_memory_is_one_storage_for_all() -> None:
    storage_at("memory://locate/a/").create("x", b"abc")
    assert storage_at("memory://locate/a").read("x") == b"abc"
    assert list(storage_at("memory://locate/b").list()) == []


def test_a_registered_scheme_is_served_by_its_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "_factories", dict(locate._factories))
    register("faulty", MemoryStorage)
    storage = storage_at("faulty://lake/a/")
    assert isinstance(storage, MemoryStorage)
    assert storage.url == "faulty://lake/a"


@pytest.mark.parametrize("address", ["hf://model", "http://host/a", "ftp://host/a", "s4://bucket"])
def test_an_unknown_scheme_names_those_that_are_known(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storage_at(address)
    assert "s3" in (caught.value.expected or "")
    assert caught.value.path == address
