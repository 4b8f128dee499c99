"""Encoded images and hooks through the command: decoded while they stream, scored as by hand."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SAMPLE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Finished

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
IMAGES = SAMPLE / "digit_images"


def pixels_of(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A gray PNG of 8 bits, decoded without TensorFlow: (h, w)."""
    data, place = b"", 8
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        body = png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 0)
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width + 1).astype(int)
    out = np.zeros((height + 1, width + 1), int)  # with a margin of zeros above and to the left
    for y, (method, *line) in enumerate(lines, 1):
        for x, value in enumerate(line, 1):
            left, up, corner = out[y, x - 1], out[y - 1, x], out[y - 1, x - 1]
            near = sorted((left, up, corner), key=lambda v: abs(left + up - corner - v))
            added = (0, left, up, (left + up) // 2, near[0])[method]
            out[y, x] = (value + added) % 256
    return out[1:, 1:].astype(np.uint8)


@pytest.fixture(scope="module")
def truth() -> Any:
    """What the model says of pixels that were decoded by hand, shard by shard."""
    from pipeline.model import load

    model = load(str(SAMPLE / "digit_images.keras"), [str(SAMPLE / "digits_models.py")]).keras
    said = {}
    for shard in sorted(IMAGES.glob("*.parquet")):
        encoded = pq.read_table(shard)["image"].to_pylist()
        pixels = np.stack([pixels_of(png) for png in encoded])[..., None]
        said[shard.name] = model.predict(pixels.astype("float32") / 255, verbose=0)["probabilities"]
    return said


def score_digits(cli: Any, output: Path, *more: object) -> Finished:
    done: Finished = cli(
        "score", "--config", SAMPLE / "digit_images.toml", "--output", output, *more
    )
    return done


def test_the_accuracy_that_is_printed_is_the_models_own(
    tmp_path: Path, cli: Any, truth: Any
) -> None:
    done = score_digits(cli, tmp_path / "out")
    assert done.code == 0, done.err
    told = subprocess.run(
        [sys.executable, str(SAMPLE / "accuracy.py"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    labels = pq.read_table(IMAGES / "unseen.parquet")["label"].to_numpy()
    own = (truth["unseen.parquet"].argmax(axis=1) == labels).mean()
    assert own > 0.95
    assert re.match(rf"accuracy: {own:.4f} of 360 digits not seen in training", told)


@pytest.mark.parametrize("method", ["predict", "predict_on_batch", "predict_step"])
def test_images_are_decoded_and_named_alike_by_each_method(
    method: str, tmp_path: Path, cli: Any, truth: Any
) -> None:
    # Of 719 rows seven batches of 96, and a short one.
    done = score_digits(
        cli, tmp_path / "out", "--method", method, "--batch-size", 96, "--small-shard-rows", 0
    )
    assert done.code == 0, done.err
    for name, probabilities in truth.items():
        published = pq.read_table(tmp_path / "out" / name)
        assert published.column_names[:2] == ["digit_id", "label"]
        found = np.stack(published["probabilities"].to_pylist())
        np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-5)
        best = np.argsort(-found, axis=1, kind="stable")[:, :3]
        named = [[NAMES[digit] for digit in row] for row in best]
        assert published["probabilities_top_labels"].to_pylist() == named
        assert published["probabilities_label"].to_pylist() == [row[0] for row in named]


def test_the_plan_says_what_becomes_of_an_image(tmp_path: Path, cli: Any) -> None:
    done = cli(
        *("plan", "--config", SAMPLE / "digit_images.toml", "--output", tmp_path / "out"), "--json"
    )
    assert done.code == 0, done.err
    assert done.document["binding"] == [
        {
            "input": "image",
            "input_type": "float32 (n, 8, 8, 1)",
            "column": "image",
            "column_type": "binary",
            "conversion": "decoded, 0..1; if not 8 x 8: stretch, bilinear",
        }
    ]


def test_how_images_are_decoded_is_part_of_the_jobs_identity(tmp_path: Path, cli: Any) -> None:
    assert score_digits(cli, tmp_path / "out").code == 0
    record = json.loads((tmp_path / "out" / "_shardscore" / "run.json").read_text())
    assert record["identity"]["inputs"] == {"image": {"image": {"scale": "0..1"}}}
    other = tmp_path / "other.toml"
    text = (SAMPLE / "digit_images.toml").read_text().replace('"0..1"', '"-1..1"')
    for name in ("digit_images.keras", "digits_models.py"):
        text = text.replace(f'"{name}"', f'"{SAMPLE / name}"')
    other.write_text(text.replace('"digit_images"', f'"{IMAGES}"'))
    done = cli("score", "--config", other, "--output", tmp_path / "out")
    assert done.code == 73
    assert "0..1" in done.err


def _lake(folder: Path, **shards: list[bytes | None]) -> Path:
    folder.mkdir()
    for name, images in shards.items():
        table = pa.table({"image": pa.array(images, pa.binary()), "id": range(len(images))})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def _some(count: int) -> list[bytes | None]:
    images: list[bytes | None] = pq.read_table(IMAGES / "unseen.parquet")["image"].to_pylist()
    return images[:count]


def test_an_image_that_cannot_be_decoded_fails_its_shard_by_its_row(
    tmp_path: Path, cli: Any
) -> None:
    lake = _lake(tmp_path / "lake", a=[b"no image", *_some(40)], b=_some(40))
    done = score_digits(cli, tmp_path / "out", "--input", lake)
    assert done.code == 65
    assert (tmp_path / "out" / "b.parquet").exists()
    assert not (tmp_path / "out" / "a.parquet").exists()
    assert re.search(r"row: +0\n", done.err)
    assert "Unknown image file format" in done.err
    assert "row:      0" in done.err
    assert "column:   image" in done.err


@pytest.mark.parametrize("small_shard_rows", [0, 1000], ids=["streamed", "one predict call"])
def test_images_that_cannot_be_decoded_are_put_aside_and_the_others_scored(
    small_shard_rows: int, tmp_path: Path, cli: Any, truth: Any
) -> None:
    images = _some(360)
    images[7] = b"no image"
    images[100] = images[100][:60]
    images[101] = b""
    images[200] = None
    done = score_digits(
        *(cli, tmp_path / "out", "--input", _lake(tmp_path / "lake", a=images), "--batch-size", 64),
        *("--small-shard-rows", small_shard_rows, "--on-bad-row", "quarantine"),
    )
    assert done.code == 0, done.err
    left = [i for i in range(360) if i not in {7, 100, 101, 200}]
    published = pq.read_table(tmp_path / "out" / "a.parquet")
    assert published["id"].to_pylist() == left
    found = np.stack(published["probabilities"].to_pylist())
    np.testing.assert_allclose(found, truth["unseen.parquet"][left], rtol=0, atol=1e-5)
    dead = pq.read_table(tmp_path / "out" / "_shardscore" / "quarantine" / "a.parquet")
    assert dead["id"].to_pylist() == [7, 100, 101, 200]
    assert dead["image"].to_pylist()[:3] == [b"no image", images[100], b""]
    reasons = dead.column(next(n for n in dead.column_names if "reason" in n)).to_pylist()
    assert reasons[0].startswith("Unknown image file format. One of JPEG")
    assert all("node" not in reason and "\n" not in reason for reason in reasons)


def test_an_input_without_a_single_image_is_published_all_the_same(
    tmp_path: Path, cli: Any
) -> None:
    lake = _lake(tmp_path / "lake", a=[None, None])
    done = score_digits(cli, tmp_path / "out", "--input", lake, "--on-bad-row", "null")
    assert done.code == 0, done.err
    published = pq.read_table(tmp_path / "out" / "a.parquet")
    assert published["probabilities"].to_pylist() == [None, None]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A model that subtracts the second of two numbers from the first."""
    import keras

    given = keras.Input((2,), name="pair")
    first, second = given[:, :1], given[:, 1:]
    keras.Model(given, keras.layers.Subtract()([first, second])).save(tmp_path / "pair.keras")
    return tmp_path / "pair.keras"


HOOKS = """
import tensorflow as tf

def prepare(columns):
    doubled = tf.cast(columns["b"], tf.float32) * 2
    length = tf.cast(tf.strings.length(columns["word"]), tf.float32)
    return tf.stack([doubled, length], axis=1)

def finish(outputs):
    difference = outputs["prediction"][:, 0]
    return {"difference": difference, "sign": ["+" if d > 0 else "-" for d in difference]}
"""


def test_hooks_stand_before_and_behind_the_model(tmp_path: Path, cli: Any, pair: Path) -> None:
    (tmp_path / "lake").mkdir()
    table = pa.table({"b": pa.array([1, 2, 3, 0], pa.int32()), "word": ["a", "bcdef", "", "xy"]})
    pq.write_table(table, tmp_path / "lake" / "1.parquet")
    hooks = tmp_path / "hooks_before_and_behind.py"
    hooks.write_text(HOOKS)
    arguments = ["score", "--model", pair, "--input", tmp_path / "lake"]
    arguments += ["--output", tmp_path / "out", "--features", "b", "--features", "wor*"]
    arguments += ["--preprocess", f"{hooks}:prepare", "--postprocess", f"{hooks}:finish"]
    done = cli(*arguments)
    assert done.code == 0, done.err
    published = pq.read_table(tmp_path / "out" / "1.parquet")
    assert published.to_pydict() == {
        "difference": [1.0, -1.0, 6.0, -2.0],
        "sign": ["+", "-", "+", "-"],
    }
    record = json.loads((tmp_path / "out" / "_shardscore" / "run.json").read_text())
    assert record["identity"]["fed"] == [
        {"name": "b", "shape": [], "dtype": "int32"},
        {"name": "word", "shape": [], "dtype": "string"},
    ]
    # A later run, on another shard, is fed what the output was begun with.
    pq.write_table(table.slice(1), tmp_path / "lake" / "2.parquet")
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert pq.read_table(tmp_path / "out" / "2.parquet")["sign"].to_pylist() == ["-", "+", "-"]
    hooks.write_text(HOOKS + "\n# changed\n")
    assert cli(*arguments).code == 73


def test_a_hook_that_is_wrong_is_known_before_a_row_is_read(
    tmp_path: Path, cli: Any, pair: Path
) -> None:
    (tmp_path / "lake").mkdir()
    pq.write_table(pa.table({"b": [1.0], "word": ["a"]}), tmp_path / "lake" / "1.parquet")
    hooks = tmp_path / "hooks_that_are_wrong.py"
    hooks.write_text("def prepare(columns):\n    return columns['b']\n")
    arguments = ["--model", pair, "--input", tmp_path / "lake", "--output", tmp_path / "out"]
    arguments += ["--features", "b", "--preprocess", f"{hooks}:prepare"]
    for command in ("plan", "score"):
        done = cli(command, *arguments)
        assert done.code == 78
        assert "the preprocess hook returns something else than the model takes" in done.err


def test_a_random_hook_is_refused_by_its_name(tmp_path: Path, cli: Any, pair: Path) -> None:
    (tmp_path / "lake").mkdir()
    pq.write_table(pa.table({"b": [float(i) for i in range(50)]}), tmp_path / "lake" / "1.parquet")
    hooks = tmp_path / "hooks_that_are_random.py"
    hooks.write_text(
        "import tensorflow as tf\n"
        "def prepare(columns):\n"
        "    b = tf.cast(columns['b'], tf.float32)\n"
        "    return tf.stack([b, tf.random.normal(tf.shape(b))], axis=1)\n"
    )
    done = cli(
        *("score", "--model", pair, "--input", tmp_path / "lake", "--output", tmp_path / "out"),
        *("--features", "b", "--preprocess", f"{hooks}:prepare"),
    )
    assert done.code == 78
    assert "other values when it is called again" in done.err
    assert "hooks_that_are_random.py:prepare" in done.err
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_hook_may_be_given_decoded_images(tmp_path: Path, cli: Any, truth: Any) -> None:
    hooks = tmp_path / "hooks_of_images.py"
    hooks.write_text("def prepare(given):\n    return given['picture'] / 255\n")
    job = tmp_path / "job.toml"
    job.write_text(
        f"""
        model = "{SAMPLE / "digit_images.keras"}"
        imports = ["{SAMPLE / "digits_models.py"}"]
        input = "{IMAGES / "unseen.parquet"}"
        output = "{tmp_path / "out"}"
        preprocess = "{hooks}:prepare"

        [inputs.picture]
        columns = "image"
        image = {{ size = [8, 8], channels = 1 }}
        """
    )
    done = cli("score", "--config", job)
    assert done.code == 0, done.err
    published = pq.read_table(tmp_path / "out" / "unseen.parquet")
    found = np.stack(published["probabilities"].to_pylist())
    np.testing.assert_allclose(found, truth["unseen.parquet"], rtol=0, atol=1e-5)
    assert cli("score", "--config", job).code == 0


def test_sequences_are_fed_at_the_length_that_the_job_says(tmp_path: Path, cli: Any) -> None:
    import keras

    words = keras.Input((None,), dtype="int64", name="words")
    vectors = keras.layers.Embedding(10, 3)(words)
    model = keras.Model(words, keras.layers.GlobalAveragePooling1D()(vectors))
    model.save(tmp_path / "words.keras")
    (tmp_path / "lake").mkdir()
    table = pa.table({"words": pa.array([[1, 2, 3], [4], [5, 6, 7, 8]], pa.list_(pa.int64()))})
    pq.write_table(table, tmp_path / "lake" / "1.parquet")
    job = tmp_path / "job.toml"
    job.write_text(
        f"""
        model = "words.keras"
        input = "lake"
        output = "{tmp_path / "out"}"

        [inputs.words]
        length = 4
        """
    )
    done = cli("score", "--config", job)
    assert done.code == 0, done.err
    padded = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]])
    found = np.stack(pq.read_table(tmp_path / "out" / "1.parquet")["prediction"].to_pylist())
    np.testing.assert_allclose(found, model.predict(padded, verbose=0), rtol=0, atol=1e-6)
