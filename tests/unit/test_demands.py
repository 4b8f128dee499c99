"""What a job says of a model's inputs, held against what the model declares."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.demands import refined, refuse_unknown
from pipeline.errors import ConfigError
from pipeline.input_options import InputOptions
from pipeline.signature import InputSpec, Signature
from tests.golden_texts import assert_golden


def spec(*shape: int | None, dtype: str = "float32", declared: bool = True) -> InputSpec:
    return InputSpec("x", shape, dtype, declared)


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (spec(3), {}, spec(3)),
        (spec(3, declared=False), {"dtype": "int64"}, spec(3, dtype="int64", declared=False)),
        (spec(3, declared=False), {"dtype": "string"}, spec(3, dtype="string", declared=False)),
        (spec(3, declared=False), {"shape": (2, 2)}, spec(2, 2, declared=False)),
        (spec(3), {"dtype": "float32", "shape": (3,)}, spec(3)),
        (spec(None, 3), {"shape": (5, 3)}, spec(5, 3)),
        (spec(None), {"length": 7}, spec(7)),
        (spec(None, 4), {"length": 7}, spec(7, 4)),
        (spec(7), {"length": 7}, spec(7)),
    ],
)
def test_what_the_model_leaves_open_the_job_may_say(
    before: InputSpec, said: dict[str, Any], after: InputSpec
) -> None:
    assert refined(before, InputOptions(**said)) == after


@pytest.mark.parametrize(
    ("name", "before", "said"),
    [
        ("another_type", spec(3), {"dtype": "int64"}),
        ("no_type", spec(3, declared=False), {"dtype": "decimal"}),
        ("another_shape", spec(None, 3), {"shape": (5, 4)}),
        ("another_rank", spec(3), {"shape": (3, 1)}),
        ("length_of_a_scalar", spec(), {"length": 7}),
        ("another_length", spec(100), {"length": 7}),
    ],
)
def test_what_the_model_declares_is_not_up_for_choice(
    name: str, before: InputSpec, said: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as raised:
        refined(before, InputOptions(**said))
    assert_golden(f"feed/{name}", str(raised.value))


def test_an_input_that_the_model_has_not_is_said_with_those_that_it_has() -> None:
    signature = Signature((spec(3), InputSpec("y", (), "string")), "dict", (), custom_step=False)
    refuse_unknown(signature, ["x", "y"])
    with pytest.raises(ConfigError) as raised:
        refuse_unknown(signature, ["x", "z"])
    assert_golden("feed/unknown_input", str(raised.value))
