"""What is done to outputs before they are written: the user's hook, then classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.classes import Classes
from pipeline.errors import ModelError
from pipeline.job import Job
from pipeline.postprocess import Finish, finish_for

if TYPE_CHECKING:
    from pathlib import Path

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], "float32")


def finished(hook: Any, classes: Classes | None = None) -> dict[str, Any]:
    return Finish(hook, classes, "hooks:after")({"y": SCORES}, 3)


def test_without_a_hook_or_classes_outputs_stay_as_they_are() -> None:
    outputs = {"y": SCORES}
    assert Finish()(outputs, 3) is outputs


def test_a_hook_sees_named_arrays_and_names_what_is_written() -> None:
    made = finished(lambda outputs: {"best": outputs["y"].argmax(axis=1), "y": outputs["y"]})
    assert made["best"].tolist() == [1, 0, 0]
    assert made["y"] is SCORES


def test_one_array_of_a_hook_is_the_prediction() -> None:
    assert finished(lambda outputs: outputs["y"][:, 0])["prediction"].tolist() == [
        np.float32(0.1),
        np.float32(0.8),
        0.5,
    ]


def test_a_hook_may_return_lists() -> None:
    made = finished(lambda _: {"word": ["a", "b", "c"], "inner": {"n": [1, 2, 3]}})
    assert made["word"].tolist() == ["a", "b", "c"]
    assert made["inner.n"].tolist() == [1, 2, 3]


def test_classes_are_those_of_what_the_hook_gives() -> None:
    made = finished(lambda outputs: {"turned": outputs["y"][:, ::-1]}, Classes(("no", "yes")))
    assert made["turned_label"].tolist() == ["no", "yes", "no"]


@pytest.mark.parametrize(
    ("hook", "complaint"),
    [
        (lambda _: None, "returns nothing"),
        (lambda outputs: outputs["y"][:2], "one entry a row"),
        (lambda outputs: outputs["y"].sum(), "one entry a row"),
        (lambda _: {"a": [1, 2]}, "one entry a row"),
        (lambda _: {}, "no output"),
        (lambda _: {"a": object()}, "no dense array"),
    ],
)
def test_what_is_no_column_is_refused(hook: Any, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        finished(hook)
    assert complaint in caught.value.message


def test_a_hook_cannot_change_the_outputs_of_the_model_behind_our_back() -> None:
    outputs = {"y": SCORES}
    Finish(lambda given: given.pop("y"))(outputs, 3)
    assert list(outputs) == ["y"]


def test_the_hook_is_what_the_job_names(tmp_path: Path) -> None:
    hooks = tmp_path / "my_hooks.py"
    hooks.write_text("def double(outputs):\n    return {n: a * 2 for n, a in outputs.items()}\n")
    job = Job(model="m.keras", input="lake", output="out", postprocess=f"{hooks}:double", top_k=1)
    made = finish_for(job)({"y": SCORES}, 3)
    assert made["y"].tolist() == (SCORES * 2).tolist()
    assert made["y_top_classes"].tolist() == [[1], [0], [0]]
