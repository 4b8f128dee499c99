"""The file beside a model that defines a class: found as text, never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.class_source import source_beside

READER = "class Reader:\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "reader.py").write_text(READER)
    return tmp_path


def found(folder: Path, name: str = "Reader", module: str = "reader") -> str | None:
    source = source_beside(folder / "m.keras", name, module)
    return None if source is None else source.name


def test_the_file_that_defines_the_class_is_found(folder: Path) -> None:
    assert found(folder) == "reader.py"
    assert found(folder, module="notebook") == "reader.py"


def test_of_several_files_the_one_of_the_classs_module_comes_first(folder: Path) -> None:
    (folder / "another.py").write_text(READER)
    assert found(folder, module="package.reader") == "reader.py"
    assert found(folder, module="__main__") == "another.py"


def test_a_function_is_found_as_well(folder: Path) -> None:
    (folder / "f.py").write_text("def swish(x):\n    return x\n")
    assert found(folder, name="swish") == "f.py"


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import Reader\n",
        "# class Reader:\n",
        "class Readers:\n    pass\n",
        "def f():\n    class Reader:\n        pass\n",
        "class Reader:\n",
        "class Reader:\n    '\0'\n",
    ],
    ids=["imported", "comment", "other name", "inside of a function", "no Python", "a null byte"],
)
def test_what_only_mentions_the_class_does_not_define_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(text)
    assert found(tmp_path) is None


def test_nothing_of_the_file_runs(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text("raise SystemExit(3)\n" + READER)
    assert found(tmp_path) == "reader.py"


def test_where_there_is_no_folder_there_is_no_file(tmp_path: Path) -> None:
    assert found(tmp_path / "gone") is None
    (tmp_path / "reader.py").mkdir()
    assert found(tmp_path) is None
