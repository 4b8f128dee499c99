"""What is written of a row that raised: what was said, and nothing that differs the next time."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ScoringError
from pipeline.raised import row_reason
from pipeline.runtime import tensorflow


def raised_by(kind: str, text: str) -> Any:
    return getattr(tensorflow().errors, kind)(None, None, text)


GRAPH = (
    "Graph execution error:\n\nDetected at node {name}/Assert defined at (most recent call last):\n"
    '  File "/home/x/model.py", line 7, in call\n\n{said}\n'
    "\t [[{{{{node {name}/Assert}}}}]] [Op:__inference_step_{number}]"
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "assertion failed: [too long.  ] [Condition x >= 0 did not hold element-wise:] "
            "[x ({name}/data:0) = ] [[1 -5]]",
            "assertion failed: too long. Condition x >= 0 did not hold element-wise: x = [1 -5]",
        ),
        ("assertion failed: [] [x ({name}:0) = ] [7]", "assertion failed: x = 7"),
        (
            "assertion failed: [no good] [[1 1][1...]...]",
            "assertion failed: no good [1 1][1...]...",
        ),
        ("assertion failed: [half a bracket", "assertion failed: [half a bracket"),
        ("indices[0,1] = -5 is not in [0, 3)", "indices[0,1] = -5 is not in [0, 3)"),
        (
            "ValueError: -65 is no length\nTraceback (most recent call last):",
            "ValueError: -65 is no length",
        ),
    ],
)
def test_a_reason_is_the_same_whatever_the_graph_is_called(said: str, reason: str) -> None:
    for name, number in (("functional/picky", 12), ("functional_7/picky_3", 977)):
        text = GRAPH.format(name=name, number=number, said=said.format(name=name))
        assert row_reason(raised_by("InvalidArgumentError", text)) == reason


def test_what_python_raises_is_named_by_its_type() -> None:
    assert row_reason(KeyError("too sure")) == "KeyError: 'too sure'"
    assert row_reason(ValueError()) == "ValueError"
    assert row_reason(ValueError("first\nsecond")) == "ValueError: first"


def test_our_own_errors_say_what_was_found() -> None:
    error = ScoringError("outputs do not fit", expected="(1, 3)", received="(1, 2)\nfrom there")
    assert row_reason(error) == "outputs do not fit: (1, 2)"


def test_a_reason_is_cut_where_an_error_prints_all_that_it_was_given() -> None:
    reason = row_reason(ValueError("x" * 10_000))
    assert len(reason) == 300
    assert reason.endswith("x…")
