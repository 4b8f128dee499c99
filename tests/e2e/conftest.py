"""The command on a small lake, with a model whose predictions are easily told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.lake import shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Finished


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that adds its named inputs a and b: what it says of a row is easily told."""
    import keras

    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    path = tmp_path_factory.mktemp("model") / "sum.keras"
    keras.Model({"a": a, "b": b}, keras.layers.Add()([a, b])).save(path)
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three good shards."""
    for name in ("1", "2", "3"):
        shard(tmp_path / "lake" / f"{name}.parquet")
    return tmp_path / "lake"


@pytest.fixture
def score(
    cli: Callable[..., Finished], model: Path, lake: Path, tmp_path: Path
) -> Callable[..., Finished]:
    def call(*more: object, **replaced: object) -> Finished:
        chosen = {"model": model, "input": lake, "output": tmp_path / "out", **replaced}
        options = [part for name, value in chosen.items() for part in (f"--{name}", value)]
        return cli("score", *options, *more)

    return call


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    """A model that looks its input string up."""
    import keras

    word = keras.Input((1,), name="word", dtype="string")
    ids = keras.layers.StringLookup(vocabulary=["a", "b"])(word)
    path = tmp_path / "lookup.keras"
    keras.Model({"word": word}, keras.layers.Rescaling(1.0)(ids)).save(path)
    return path
