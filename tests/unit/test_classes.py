"""Classes: the likeliest ones, by name, as a naive computation has them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.classes import Classes, likeliest, read_labels
from pipeline.errors import ConfigError, ModelError
from pipeline.predictions import Array, schema_of

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]], np.float32)
NAN, INF = math.nan, math.inf
ABC = ("a", "b", "c")


def listed(columns: dict[str, Array]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in columns.items()}


# What is written


def test_labels_come_behind_the_outputs_which_stay_as_they_are() -> None:
    other = np.zeros((2, 5), np.int64)
    columns = Classes(ABC).columns({"probs": SCORES, "other": other})
    assert list(columns) == ["probs", "other", "probs_label"]
    assert columns["probs"] is SCORES
    assert columns["other"] is other
    assert columns["probs_label"].tolist() == ["b", "a"]
    assert columns["probs_label"].dtype == object


def test_the_top_ones_have_labels_and_scores_the_likeliest_first() -> None:
    columns = Classes(ABC, top_k=2).columns({"p": SCORES})
    assert list(columns) == ["p", "p_label", "p_top_labels", "p_top_scores"]
    assert columns["p_top_labels"].tolist() == [["b", "c"], ["a", "c"]]
    assert columns["p_top_scores"].dtype == np.float32
    assert columns["p_top_scores"].tolist() == SCORES[[[0], [1]], [[1, 2], [0, 2]]].tolist()


def test_without_labels_classes_are_numbers() -> None:
    columns = Classes(top_k=3).columns({"p": SCORES})
    assert list(columns) == ["p", "p_class", "p_top_classes", "p_top_scores"]
    assert columns["p_class"].tolist() == [1, 0]
    assert columns["p_top_classes"].tolist() == [[1, 2, 0], [0, 2, 1]]
    assert {columns["p_class"].dtype, columns["p_top_classes"].dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_top_scores_keep_the_type_of_the_output(dtype: Any) -> None:
    scores = SCORES.astype(dtype)
    columns = Classes(top_k=1).columns({"p": scores})
    assert columns["p_top_scores"].dtype == dtype
    assert columns["p_top_scores"].tolist() == scores.max(axis=1, keepdims=True).tolist()


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_one_score_a_row_and_two_labels_are_told_apart_at_a_half(
    shape: tuple[int, ...], dtype: Any
) -> None:
    scores = np.array([0.0, 0.49, 0.5, 1.0]).astype(dtype).reshape(shape)
    assert Classes(("no", "yes")).columns({"p": scores})["p_label"].tolist() == [
        *("no", "no", "yes", "yes")
    ]
    assert Classes(output="p").columns({"p": scores})["p_class"].tolist() == [0, 0, 1, 1]


def test_columns_of_classes_can_be_written() -> None:
    columns = Classes(ABC, top_k=2).columns({"p": SCORES})
    schema = schema_of(columns)
    assert schema.described() == {
        "p": "fixed_size_list<item: float>[3]",
        "p_label": "string",
        "p_top_labels": "fixed_size_list<item: string>[2]",
        "p_top_scores": "fixed_size_list<item: float>[2]",
    }
    assert schema.to_arrow(list(columns.values()), 2)[2].to_pylist() == [["b", "c"], ["a", "c"]]


@pytest.mark.parametrize("shape", [(0, 3), (0, 1), (0,)])
def test_no_rows_have_no_classes(shape: tuple[int, ...]) -> None:
    labels = ABC if shape == (0, 3) else ("no", "yes")
    columns = Classes(labels).columns({"p": np.zeros(shape, np.float32)})
    assert columns["p_label"].shape == (0,)
    assert columns["p_label"].dtype == object


def test_classes_travel_between_processes() -> None:
    classes = Classes(ABC, 2, "p")
    again = pickle.loads(pickle.dumps(classes))  # noqa: S301 - our own bytes
    assert again == classes
    assert listed(again.columns({"p": SCORES})) == listed(classes.columns({"p": SCORES}))


# The order of classes


@pytest.mark.parametrize(
    ("row", "order"),
    [
        ([1, 1, 1], [0, 1, 2]),
        ([0, 1, 1], [1, 2, 0]),
        ([0.0, -0.0, 1], [2, 0, 1]),
        ([NAN, 0, 1], [2, 1, 0]),
        ([NAN, -INF, NAN], [1, 0, 2]),
        ([NAN, NAN, NAN], [0, 1, 2]),
        ([-NAN, 0, NAN], [1, 0, 2]),
        ([-INF, -INF, -INF], [0, 1, 2]),
        ([INF, INF, 0], [0, 1, 2]),
        ([-1, -INF, INF], [2, 0, 1]),
    ],
)
def test_equal_scores_are_in_the_order_of_their_classes_and_nan_is_last(
    row: list[float], order: list[int]
) -> None:
    for count in (1, 2, 3):
        found = likeliest(np.array([row, [1, 2, 3]], np.float32), count)
        assert found.tolist() == [order[:count], [2, 1, 0][:count]]


def naive(row: list[float], count: int) -> list[int]:
    def place(at: int) -> tuple[bool, float, int]:
        bad = math.isnan(row[at])
        return bad, 0.0 if bad else -row[at], at

    return sorted(range(len(row)), key=place)[:count]


FEW = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, NAN, INF, -INF])


@given(st.data())
def test_the_likeliest_are_those_of_a_naive_computation(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    width = data.draw(st.integers(2, 20))
    values = data.draw(st.sampled_from([FEW, st.floats(width=16), st.floats(0, 1, width=16)]))
    scores = data.draw(hnp.arrays(dtype, (data.draw(st.integers(0, 4)), width), elements=values))
    count = data.draw(st.integers(1, width))
    before = scores.tobytes()
    found = likeliest(scores, count)
    assert found.tolist() == [naive(row, count) for row in scores.tolist()]
    assert scores.tobytes() == before
    finite = np.isfinite(scores).all(axis=1)
    assert np.array_equal(found[finite, 0], scores[finite].argmax(axis=1))
    labels = tuple(f"class {i}" for i in range(width))
    columns = Classes(labels, top_k=count).columns({"p": scores})
    named = [
        [None if np.isnan(row[i]) else labels[i] for i in best]
        for row, best in zip(scores, found, strict=True)
    ]
    assert columns["p_top_labels"].tolist() == named
    assert columns["p_label"].tolist() == [best[0] for best in named]


@given(hnp.arrays(np.float32, (6, 4), elements=FEW), st.integers(0, 6))
def test_a_row_has_the_same_classes_whatever_shares_its_batch(scores: Array, cut: int) -> None:
    parts = [likeliest(scores[:cut], 3), likeliest(scores[cut:], 3)]
    assert np.array_equal(np.concatenate(parts), likeliest(scores, 3))


# Which output is meant

WIDE, OTHER, NARROW = np.zeros((2, 3)), np.zeros((2, 4)), np.zeros((2, 1))
INTS, GRID = np.zeros((2, 3), np.int64), np.zeros((2, 3, 3))


@pytest.mark.parametrize(
    ("classes", "outputs", "meant"),
    [
        (Classes(), {"a": WIDE}, "a_class"),
        (Classes(), {"a": NARROW, "b": INTS, "c": GRID, "d": WIDE}, "d_class"),
        (Classes(ABC), {"a": OTHER, "b": WIDE}, "b_label"),
        (Classes(ABC, output="b"), {"a": WIDE, "b": WIDE}, "b_label"),
        (Classes(("n", "y")), {"a": NARROW, "b": INTS}, "a_label"),
        (Classes(("n", "y")), {"a": NARROW, "b": WIDE}, "a_label"),
        (Classes(("n", "y")), {"a": NARROW, "b": np.zeros((2, 2))}, "b_label"),
    ],
)
def test_the_one_output_that_fits_is_meant(
    classes: Classes, outputs: dict[str, Array], meant: str
) -> None:
    assert list(classes.columns(outputs)) == [*outputs, meant]


@pytest.mark.parametrize(
    ("classes", "outputs", "message", "expected", "received"),
    [
        (
            Classes(ABC),
            {"a": WIDE, "b": WIDE, "c": OTHER},
            "several outputs",
            "one output of floats, (rows, 3)",
            "a: float64 (rows, 3), b: float64 (rows, 3)",
        ),
        (
            Classes(),
            {"a": NARROW, "b": INTS},
            "no output",
            "one output of floats, (rows, k)",
            "a: float64 (rows, 1), b: int64 (rows, 3)",
        ),
        (Classes(ABC), {"a": OTHER}, "not as many", "4 labels", "3 labels"),
        (Classes(ABC, output="a"), {"a": OTHER, "b": WIDE}, "not as many", "4 labels", "3 labels"),
        (Classes(top_k=4), {"a": WIDE}, "top_k is more", "at most 3", "4"),
        (Classes(output="x"), {"a": WIDE}, "label_output", "a: float64 (rows, 3)", None),
        (Classes(output="a"), {"a": GRID}, "not the scores", None, "float64 (rows, 3, 3)"),
        (Classes(output="a"), {"a": INTS}, "not the scores", None, "int64 (rows, 3)"),
        (
            Classes(("n", "y"), top_k=1, output="a"),
            {"a": NARROW},
            "one score a row",
            "two labels, and no top_k",
            "2 labels, top_k = 1",
        ),
        (
            Classes(ABC, output="a"),
            {"a": NARROW},
            "one score a row",
            None,
            "3 labels, top_k = None",
        ),
        (Classes(("n", "y"), top_k=1), {"a": NARROW}, "one score a row", None, None),
        (Classes(("n", "y")), {"a": NARROW, "b": NARROW}, "several outputs", None, None),
        (Classes(ABC), {"a": WIDE, "a_label": NARROW}, "of the name", None, None),
    ],
)
def test_what_fits_no_output_is_refused_with_what_is_there(
    classes: Classes,
    outputs: dict[str, Array],
    message: str,
    expected: str | None,
    received: str | None,
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        classes.columns(outputs)
    assert expected is None or caught.value.expected == expected
    assert received is None or caught.value.received == received


def test_several_candidates_are_answered_by_label_output() -> None:
    with pytest.raises(ModelError) as caught:
        Classes().columns({"a": WIDE, "b": OTHER})
    assert "label_output" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "said", [{"labels": ("a", "b", "a")}, {"labels": ("a",)}, {"top_k": 0}, {"top_k": -1}]
)
def test_classes_that_say_nothing_cannot_be_made(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Classes(**said)


# A file of labels


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb c\n\xc3\xa9",
        b"a\nb c\n\xc3\xa9\n",
        b"a\r\nb c\r\n\xc3\xa9\r\n",
        b"\xef\xbb\xbfa\nb c\n\xc3\xa9",
    ],
    ids=["no last line break", "a last line break", "CRLF", "byte order mark"],
)
def test_labels_are_read_one_a_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    assert read_labels(tmp_path / "labels.txt") == ("a", "b c", "é")


def test_only_a_line_feed_ends_a_label(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\u2028b\n c\x0c\n", encoding="utf-8")
    assert read_labels(str(tmp_path / "labels.txt")) == ("a\u2028b", " c\x0c")


@pytest.mark.parametrize(
    ("data", "message", "received"),
    [
        (b"", "is empty", None),
        (b"a\n\nb\n", "empty line", "line 2"),
        (b"a\nb\n\n", "empty line", "line 3"),
        (b"a\n  \n", "empty line", "line 2"),
        (b"a\nb\na\n", "two classes", "numbers 1 and 3"),
        (b"a\nb\xff\n", "not UTF-8", "line 2"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused_with_the_line(
    data: bytes, message: str, received: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        read_labels(path)
    assert caught.value.path == str(path)
    assert caught.value.received == received


def test_a_file_of_labels_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        read_labels(tmp_path / "no.txt")
    assert caught.value.path == str(tmp_path / "no.txt")
    assert caught.value.received == "No such file or directory"
