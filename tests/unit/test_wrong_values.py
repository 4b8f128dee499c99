"""A job's wrong value: its place, what would be right, and what it is, in words kept as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.settings import job_from
from pipeline.errors import ShardscoreError
from tests.golden_texts import GOLDEN, assert_golden

MINIMAL = 'model = "/m.keras"\ninput = "/lake"\noutput = "/out"\n'

FILES = {
    "unknown_key_of_an_input": "[inputs.tokens]\nlenght = 5",
    "unknown_key_like_none": "[inputs.tokens]\nqqqq = 5",
    "unknown_key_of_an_image": "[inputs.photo]\nimage = { siz = [8, 8] }",
    "unknown_key": "batchsize = 5",
    "length_of_nothing": "[inputs.tokens]\nlength = 0",
    "length_that_is_no_number": '[inputs.tokens]\nlength = "long"',
    "length_that_is_no_integer": "[inputs.tokens]\nlength = 1.5",
    "length_that_is_true": "[inputs.tokens]\nlength = true",
    "unit_that_there_is_not": '[inputs.when]\nunit = "hours"',
    "time_unit_that_there_is_not": 'time_unit = "hours"',
    "pad_that_there_is_not": '[inputs.tokens]\nlength = 3\npad = "left"',
    "padding_with_a_list": "[inputs.tokens]\nlength = 3\npad_value = [0]",
    "padding_with_nan": "[inputs.tokens]\nlength = 3\npad_value = nan",
    "padding_without_a_length": "[inputs.tokens]\npad_value = 1",
    "cutting_without_a_length": '[inputs.tokens]\ntruncate = "end"',
    "image_with_a_unit": '[inputs.photo]\nimage = true\nunit = "s"',
    "image_that_is_a_text": '[inputs.photo]\nimage = "yes"',
    "image_of_no_height": "[inputs.photo]\nimage = { size = [0, 8] }",
    "image_of_one_size": "[inputs.photo]\nimage = { size = 8 }",
    "image_of_two_channels": "[inputs.photo]\nimage = { channels = 2 }",
    "shape_that_is_no_list": "[inputs.x]\nshape = 3",
    "input_that_is_a_number": "inputs = { x = 1 }",
    "inputs_that_are_no_table": 'inputs = "x"',
    "column_without_a_name": '[inputs]\nx = ["a", ""]',
    "column_that_is_a_number": "[inputs.x]\ncolumns = [1]",
    "input_of_a_quoted_name": '[inputs."a b.c"]\nlength = 0',
    "features_and_inputs": 'features = ["a"]\n[inputs.x]\nlength = 3',
    "lossy_column_that_is_a_number": "allow_lossy = [1]",
    "batch_size_that_is_a_word": 'batch_size = "many"',
    "limit_that_is_no_percentage": 'max_bad_rows = "1"',
    "hook_without_a_function": 'preprocess = "hooks"',
}

GIVEN: dict[str, dict[str, Any]] = {
    "given_batch_size": {"batch_size": 0},
    "given_time_unit": {"time_unit": "hours"},
    "given_module_without_a_name": {"imports": [""]},
    "given_share_of_nothing": {"shard_index": 3},
    "given_plan_id_of_a_path": {"plan_id": "../plans/a"},
}


@pytest.mark.parametrize("case", [*FILES, *GIVEN])
def test_a_wrong_value_is_told_with_its_place(case: str, tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text(f"{MINIMAL}{FILES.get(case, '')}\n")
    with pytest.raises(ShardscoreError) as caught:
        job_from(GIVEN.get(case, {}), config)
    assert_golden(f"settings/{case}", str(caught.value).replace(str(tmp_path), "/jobs"))


def test_each_golden_text_has_its_case() -> None:
    names = {path.stem for path in (GOLDEN / "settings").glob("*.txt")}
    assert names == {*FILES, *GIVEN}
