"""TOML as text: what is written is read back as it was, and an edit changes its keys alone."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.toml_text import toml_comment, toml_key, toml_value, with_values

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_what_is_written_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    text = "\n".join(f"{toml_key(name)} = {toml_value(value)}" for name, value in document.items())
    assert tomllib.loads(text) == document


@given(texts)
def test_a_comment_is_one_line_that_says_nothing(text: str) -> None:
    comment = toml_comment(text)
    assert tomllib.loads(f"a = 1 {comment}\nb = 2") == {"a": 1, "b": 2}


JOB = """\
# What this job is for: a # comment
model = "m.keras"   # the model
batch_size   =   32 # rows, [not] a table
text = \"\"\"
method = "no"
[inputs]
\"\"\"\"   # ends in a quote
'quoted' = 'a # b'
input = [ # several
    "a",  # one = two
    "[b]",
]

# The inputs
[inputs]
batch_size = "a column"
method = { columns = ["x"] }
"""


def test_only_the_value_changes_and_comments_stay() -> None:
    edited = with_values(JOB, {"batch_size": 8192}, "job.toml")
    assert edited == JOB.replace("batch_size   =   32 #", "batch_size   = 8192 #")


def test_a_key_that_is_not_there_comes_behind_the_last_one_of_the_top() -> None:
    edited = with_values(JOB, {"method": "predict"}, "job.toml")
    assert edited == JOB.replace("]\n\n# The", ']\nmethod = "predict"\n\n# The')


def test_a_file_of_tables_alone_gets_its_first_lines() -> None:
    text = '[inputs]\nmethod = "a"'
    edited = with_values(text, {"method": "predict", "batch_size": 1}, "job.toml")
    assert tomllib.loads(edited) == {
        "method": "predict",
        "batch_size": 1,
        "inputs": {"method": "a"},
    }


@pytest.mark.parametrize("text", ["", "# nothing", "# nothing\n", "a = 1", "a = 1 # end"])
def test_keys_find_a_place_in_short_files(text: str) -> None:
    edited = with_values(text, {"method": "predict"}, "job.toml")
    assert tomllib.loads(edited) == {**tomllib.loads(text), "method": "predict"}
    assert edited.startswith(text.strip()) or edited.endswith(text)


def test_line_breaks_of_windows_stay() -> None:
    edited = with_values('a = 1\r\nmethod = "x" # y\r\n', {"method": "z", "b": 2}, "job.toml")
    assert edited == 'a = 1\r\nmethod = "z" # y\r\nb = 2\r\n'


def test_a_quoted_key_is_the_same_key() -> None:
    edited = with_values('"batch_size" = 1', {"batch_size": 2}, "job.toml")
    assert edited == '"batch_size" = 2'


def test_a_key_that_is_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be set") as caught:
        with_values("[method]\na = 1\n", {"method": "predict"}, "job.toml")
    assert caught.value.hint == 'set them by hand: method = "predict"'


def test_what_is_not_toml_is_refused() -> None:
    with pytest.raises(ConfigError, match="not TOML") as caught:
        with_values("a = ", {"b": 1}, "job.toml")
    assert caught.value.path == "job.toml"


line_ends = st.sampled_from(["", "   ", " # a comment", ' # x = "y" [z]'])
between = st.sampled_from(["", "\n", "# a line\n", "\t# [tables] = 1\n"])


@given(
    st.dictionaries(texts, st.tuples(values, line_ends, between), max_size=5),
    st.dictionaries(texts, st.tuples(values, line_ends, between), max_size=3),
    st.dictionaries(st.sampled_from(["batch_size", "method", "model"]), values, min_size=1),
)
def test_an_edit_changes_its_keys_alone_and_no_comment(
    top: dict[str, Any], inputs: dict[str, Any], edits: dict[str, Any]
) -> None:
    def lines(table: dict[str, Any]) -> str:
        return "".join(
            f"{before}{toml_key(name)} = {toml_value(value)}{end}\n"
            for name, (value, end, before) in table.items()
        )

    top.pop("inputs", None)
    text = lines(top) + "[inputs] # them\n" + lines(inputs)
    edited = with_values(text, edits, "job.toml")
    assert tomllib.loads(edited) == {**tomllib.loads(text), **edits}
    kept = [line for line in text.split("\n") if line.lstrip().startswith(("#", "["))]
    assert [x for x in edited.split("\n") if x.lstrip().startswith(("#", "["))] == kept
    for name, (_, end, _) in top.items():
        assert any(
            line.startswith(f"{toml_key(name)} =") and line.endswith(end)
            for line in edited.split("\n")
        )


def test_a_value_is_set_below_the_comment_that_shows_its_default() -> None:
    text = 'model = "m"\n\n# --- How\n# batch_size = "auto"   # as much as fits\n\n[inputs]\n'
    text += "# batch_size = 3\n"
    wanted = text.replace("fits\n", "fits\nbatch_size = 512\n")
    assert with_values(text, {"batch_size": 512}, "job.toml") == wanted
