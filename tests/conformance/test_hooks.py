"""The preprocess hook: what it is given, what it may return, and how it may fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from pipeline.errors import ConfigError, ModelError
from pipeline.feed import Feed, feed_for
from pipeline.images import decoder_for
from pipeline.input_options import ImageOptions
from pipeline.job import Job
from pipeline.postprocess import Finish
from pipeline.preprocess import Preprocess
from pipeline.reasons import named_reason, reason_of
from pipeline.signature import InputSpec, Signature
from pipeline.user_code import load_hook
from tests.golden_texts import assert_golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A, B = InputSpec("a", (2,), "float32"), InputSpec("b", (), "float32")
COLUMNS = (InputSpec("x", (), "float32"), InputSpec("y", (), "float32"))
ROWS = [np.array([1, 2, 3], "float32"), np.array([10, 20, 30], "float32")]


def takes(*specs: InputSpec, structure: Any = "tensor", nest: Any = None) -> Signature:
    return Signature(specs, structure, (), custom_step=False, nest=nest)


def fed(
    hook: Callable[..., Any],
    signature: Signature = takes(A),  # noqa: B008 - frozen
    columns: tuple[InputSpec, ...] = COLUMNS,
) -> Feed:
    feed = Feed(columns, signature, preprocess=Preprocess("hooks:prepare", hook))
    feed.trace()
    return feed


def element(feed: Feed, rows: list[Any] = ROWS) -> Any:
    """As the stream makes it: in the graph of a dataset, not outside."""
    dataset = tf.data.Dataset.from_tensors(tuple(feed.tensors(rows)))
    (made,) = dataset.map(lambda *tensors: feed.element(tensors))
    outside = feed.element(feed.tensors(rows))
    tf.nest.map_structure(np.testing.assert_array_equal, made, outside)
    return made


def stacked(named: dict[str, Any]) -> Any:
    return tf.stack([named["x"], named["y"]], axis=1)


BOTH = [[1, 10], [2, 20], [3, 30]]


def test_a_hook_sees_named_tensors_and_returns_the_tensor_that_the_model_takes() -> None:
    assert element(fed(stacked)).numpy().tolist() == BOTH


@pytest.mark.parametrize(
    "wrap", [lambda t: [t], lambda t: (t,), lambda t: {"a": t}], ids=["list", "tuple", "dict"]
)
def test_one_tensor_may_be_wrapped(wrap: Any) -> None:
    assert element(fed(lambda named: wrap(stacked(named)))).numpy().tolist() == BOTH


@pytest.mark.parametrize(
    "hook",
    [
        lambda named: [stacked(named), named["y"]],
        lambda named: (stacked(named), named["y"]),
        lambda named: ((stacked(named), named["y"]),),
        lambda named: {"b": named["y"], "a": stacked(named)},
    ],
    ids=["list", "tuple", "element", "dict"],
)
def test_a_model_of_a_list_gets_its_tuple_in_a_tuple(hook: Any) -> None:
    made = element(fed(hook, takes(A, B, structure="list")))
    assert len(made) == 1
    assert made[0][0].numpy().tolist() == BOTH
    assert made[0][1].numpy().tolist() == [10, 20, 30]


def test_a_model_of_a_dict_gets_its_own_keys() -> None:
    made = element(
        fed(
            lambda named: {"b": named["y"], "a": stacked(named)},
            takes(A, B, structure="dict"),
        )
    )
    assert list(made) == ["a", "b"]
    assert made["a"].numpy().tolist() == BOTH


@pytest.mark.parametrize("nested", [True, False])
def test_a_model_of_nested_inputs_gets_them_nested(nested: bool) -> None:
    one, two = InputSpec("in.a", (2,), "float32"), InputSpec("in.b.0", (), "float32")
    signature = takes(one, two, structure="dict", nest={"in": {"a": 0, "b": (1,)}})

    def hook(named: dict[str, Any]) -> Any:
        if nested:
            return {"in": {"b": [named["y"]], "a": stacked(named)}}
        return {"in.b.0": named["y"], "in.a": stacked(named)}

    made = element(fed(hook, signature))
    assert made["in"]["a"].numpy().tolist() == BOTH
    assert made["in"]["b"][0].numpy().tolist() == [10, 20, 30]


def test_a_hook_may_call_python_through_numpy_function() -> None:
    def hook(named: dict[str, Any]) -> Any:
        return tf.numpy_function(
            lambda x, y: np.stack([x, y], axis=1), [named["x"], named["y"]], tf.float32
        )

    assert element(fed(hook)).shape == (3, 2)


def test_a_hook_may_branch_on_values() -> None:
    def hook(named: dict[str, Any]) -> Any:
        if tf.reduce_max(named["x"]) > 2:  # noqa: SIM108 - this is what AutoGraph is for
            made = stacked(named)
        else:
            made = -stacked(named)
        return made

    feed = fed(hook)
    assert element(feed).numpy().tolist() == BOTH
    assert element(feed, [ROWS[0] - 2, ROWS[1]]).numpy()[0].tolist() == [1, -10]


def test_a_hook_is_traced_once_for_all_batches_and_streams() -> None:
    traced = []

    def hook(named: dict[str, Any]) -> Any:
        traced.append(1)
        return stacked(named)

    feed = fed(hook)
    for size in (1, 2, 3):
        element(feed, [array[:size] for array in ROWS])
    assert len(traced) == 1


def test_images_are_decoded_before_the_hook_sees_them() -> None:
    photo = InputSpec("photo", (2, 2, 3), "float32")
    seen = []

    def hook(named: dict[str, Any]) -> Any:
        seen.append(named["photo"].shape.as_list())
        return tf.reduce_mean(named["photo"], axis=[1, 2])[:, :2] / 255

    feed = Feed(
        (InputSpec("photo", (), "string"),),
        takes(A),
        decoders={"photo": decoder_for(photo, ImageOptions())},
        preprocess=Preprocess("hooks:prepare", hook),
    )
    white = tf.io.encode_png(np.full((5, 9, 3), 255, np.uint8)).numpy()
    made = feed.element(feed.tensors([np.array([white, white], object)]))
    assert made.numpy().tolist() == [[1, 1], [1, 1]]
    assert seen == [[None, 2, 2, 3]]
    assert feed.element(feed.tensors(feed.sample(3))).numpy().tolist() == [[0, 0]] * 3


def _raises(named: dict[str, Any]) -> Any:
    return named["amount"]


def _raises_in_a_helper(named: dict[str, Any]) -> Any:
    raise ValueError("no such\nluck")


@pytest.mark.parametrize(
    ("name", "hook", "signature"),
    [
        ("hook_raises", _raises, takes(A)),
        ("hook_raises_on_lines", _raises_in_a_helper, takes(A)),
        ("hook_takes_no_argument", lambda: None, takes(A)),
        ("hook_returns_nothing", lambda _: None, takes(A)),
        ("hook_returns_no_tensor", lambda _: object(), takes(A)),
        ("hook_of_another_type", lambda named: tf.cast(stacked(named), tf.float64), takes(A)),
        ("hook_of_another_width", lambda named: tf.stack([named["x"]] * 3, axis=1), takes(A)),
        ("hook_of_another_rank", lambda named: named["x"], takes(A)),
        ("hook_of_one_number", lambda named: tf.reduce_sum(named["x"]), takes(A)),
        ("hook_of_several_tensors", lambda named: [named["x"], named["y"]], takes(A)),
        (
            "hook_of_a_key_too_many",
            lambda named: {"a": stacked(named), "b": named["x"], "c": named["x"]},
            takes(A, B, structure="dict"),
        ),
        (
            "hook_of_a_list_for_a_dict",
            lambda named: [stacked(named)],
            takes(A, B, structure="dict"),
        ),
        ("hook_of_too_few", lambda named: [stacked(named)], takes(A, B, structure="list")),
        (
            "hook_of_a_ragged_tensor",
            lambda named: tf.RaggedTensor.from_tensor(stacked(named)),
            takes(A),
        ),
    ],
)
def test_a_hook_that_does_not_give_what_the_model_takes_is_known_before_a_row_is_read(
    name: str, hook: Any, signature: Signature
) -> None:
    with pytest.raises(ModelError) as raised:
        fed(hook, signature)
    assert_golden(f"feed/{name}", re.sub(r"line \d+", "line N", str(raised.value)))


def test_where_the_model_declares_no_type_a_hook_may_return_any() -> None:
    guess = InputSpec("a", (2,), "float32", declared=False)
    made = element(fed(lambda named: tf.cast(stacked(named), tf.int64), takes(guess)))
    assert made.dtype == tf.int64


@pytest.mark.parametrize(
    "hook",
    [
        lambda named: tf.boolean_mask(stacked(named), named["x"] > 1.5),
        lambda named: tf.repeat(stacked(named), 2, axis=0),
    ],
    ids=["drops", "adds"],
)
def test_a_hook_that_changes_the_number_of_rows_fails_when_it_is_run(hook: Any) -> None:
    feed = fed(hook)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        feed.element(feed.tensors(ROWS))
    said = reason_of(raised.value)
    assert "the preprocess hook hooks:prepare returns another number of rows" in said
    assert said.endswith("[3]")
    dataset = tf.data.Dataset.from_tensors(tuple(feed.tensors(ROWS)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset.map(lambda *tensors: feed.element(tensors)))


def test_a_shape_that_a_graph_cannot_know_is_compared_when_it_is_run() -> None:
    feed = fed(lambda named: tf.numpy_function(lambda x: x, [named["x"]], tf.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        feed.element(feed.tensors(ROWS))


def test_what_a_hook_raises_on_a_batch_is_said_in_a_line() -> None:
    def refuses(x: Any) -> Any:
        if (x > 2).any():
            raise ValueError("3 is too much")
        return np.stack([x, x], axis=1)

    feed = fed(lambda named: tf.numpy_function(refuses, [named["x"]], tf.float32))
    assert feed.element(feed.tensors([array[:2] for array in ROWS])).shape == (2, 2)
    with pytest.raises(tf.errors.OpError) as raised:
        feed.element(feed.tensors(ROWS))
    assert reason_of(raised.value) == "ValueError: 3 is too much"


def test_the_reason_is_found_among_several_that_a_graph_gives() -> None:
    said = (
        "Graph execution error:\n\nDetected at node a defined at (most recent call last):\n"
        '  File "x.py", line 1, in f\n\n2 root error(s) found.\n'
        "  (0) INVALID_ARGUMENT:  Unknown image file format.\n\t [[{{node map/while/a}}]]\n"
        "  (1) CANCELLED: stopped [Op:__inference_f_1]"
    )
    assert reason_of(RuntimeError(said)) == "Unknown image file format."


def test_the_reason_of_an_ordinary_error_is_its_first_line() -> None:
    assert named_reason(ValueError("one\ntwo")) == "ValueError: one"
    assert named_reason(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("name", "source", "hook"),
    [
        ("hook_without_a_module", None, "no_such_module_here:prepare"),
        ("hook_without_a_function", "x = 1\n", "hooks_of_a_test.py:prepare"),
        ("hook_that_is_no_function", "prepare = 1\n", "hooks_of_a_test.py:prepare"),
        ("hook_whose_module_fails", "import no_such_module_there\n", "hooks_of_a_test.py:prepare"),
    ],
)
def test_a_hook_that_cannot_be_had_is_said(
    name: str,
    source: str | None,
    hook: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "hooks_of_a_test", raising=False)
    if source is not None:
        (tmp_path / "hooks_of_a_test.py").write_text(source)
    with pytest.raises(ModelError) as raised:
        load_hook(hook)
    assert_golden(f"feed/{name}", str(raised.value))


def test_a_job_without_a_hook_feeds_the_model_as_its_tables_say() -> None:
    ids = InputSpec("ids", (None,), "int64")
    photo = InputSpec("photo", (None, None, 3), "float32")
    job = Job(
        model="m.keras",
        input="in",
        output="out",
        inputs={"ids": {"length": 5}, "photo": {"image": {"size": [4, 6]}}},
    )
    feed = feed_for(takes(ids, photo, structure="dict"), job, None, [])
    assert [str(spec) for spec in feed.inputs] == ["ids: int64 (n, 5)", "photo: string (n)"]
    assert [spec.shape for spec in feed.signature.inputs] == [(5,), (4, 6, 3)]
    made = feed.element(feed.tensors(feed.sample(2)))
    assert made["photo"].shape == (2, 4, 6, 3)
    assert made["ids"].shape == (2, 5)
    # The automatic size of a batch weighs what is decoded, not what is stored.
    assert feed.signature.batch_size() == 4096


def test_which_columns_feed_a_hook_must_be_said() -> None:
    job = Job(model="m.keras", input="in", output="out", preprocess="hooks:prepare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.feed.load_hook", lambda _: stacked)
        with pytest.raises(ConfigError) as raised:
            feed_for(takes(A), job, None, [pa.schema([("x", pa.float32())])])
    assert_golden("feed/hook_without_columns", str(raised.value))


def test_a_type_that_the_model_only_guesses_is_what_the_job_says() -> None:
    guess = InputSpec("ids", (3,), "float32", declared=False)
    job = Job(model="m.keras", input="in", output="out", inputs={"ids": {"dtype": "int64"}})
    feed = feed_for(takes(guess), job, None, [])
    assert feed.inputs[0].dtype == feed.signature.inputs[0].dtype == "int64"
    beyond = 2**24 + 1  # float32 would make it even
    made = feed.element(feed.tensors([np.array([[beyond] * 3])]))
    assert made.numpy().tolist() == [[beyond] * 3]


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("postprocess_returns_nothing", lambda _: None),
        ("postprocess_drops_rows", lambda outputs: outputs["y"][:2]),
        ("postprocess_returns_no_arrays", lambda _: {"y": object()}),
    ],
)
def test_a_postprocess_hook_that_gives_no_columns_is_named(name: str, hook: Any) -> None:
    finish = Finish(hook, None, "hooks:finish")
    with pytest.raises(ModelError) as raised:
        finish({"y": np.zeros((3, 2), "float32")}, 3)
    assert_golden(f"feed/{name}", str(raised.value))
