"""What a hostile reader found: ways to a wrong prediction that nothing pointed out, each closed."""

from __future__ import annotations

import hashlib
import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.exit_codes import ExitCode
from pipeline.binding import check
from pipeline.classes import Classes
from pipeline.errors import ContractError, ModelError
from pipeline.extract import extract
from pipeline.load import load_predictions
from pipeline.predictions import schema_of
from pipeline.raised import row_reason
from pipeline.signature import InputSpec, Signature
from pipeline.user_code import digest_imports, import_module, load_hook
from tests.conformance.raising import (
    COLUMNS,
    Picky,
    features,
    letters,
    published,
    run,
    saved,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("plain"))


def hook(folder: Path, name: str, body: str) -> str:
    """A hook of that body in a module of its own; modules are told apart by their names."""
    path = folder / f"hostile_{name}.py"
    path.write_text(f"import numpy as np\n\ndef {name}(outputs):\n{body}")
    return f"{path}:{name}"


def two_kinds(rows: int = 64) -> np.ndarray[Any, Any]:
    """Rows of which the second half has other signs than the first."""
    values = features(rows)
    values[rows // 2 :] *= -3
    return values


def truth_of(model: Path, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = keras.models.load_model(model, compile=False).predict(
        values, batch_size=8, verbose=0
    )
    return found


@pytest.mark.parametrize("method", ["auto", "predict", "predict_step"])
def test_a_hook_whose_dict_changes_its_order_does_not_swap_columns(
    method: Any, plain: Path, tmp_path: Path
) -> None:
    body = """
    p = outputs["prediction"]
    columns = {"first": p[:, 0], "second": p[:, 1]}
    return columns if p[0, 0] > 0 else dict(reversed(columns.items()))
"""
    values = two_kinds()
    truth = truth_of(plain, values)
    assert {True, False} == set((truth[::8, 0] > 0).tolist())  # both orders occur
    write(tmp_path / "in" / "a.parquet", values)
    report = run(
        plain,
        tmp_path,
        method=method,
        batch_size=8,
        small_shard_rows=0,
        postprocess=hook(tmp_path, "turning", body),
    )
    assert report.state == "finished", report.failed
    table = published(tmp_path)
    np.testing.assert_array_equal(table["first"].to_numpy(), truth[:, 0])
    np.testing.assert_array_equal(table["second"].to_numpy(), truth[:, 1])


def test_columns_have_the_order_that_the_output_was_begun_with() -> None:
    # A hook's dict may be in another order in each process: Python's sets of texts are.
    one, other = np.zeros(2, np.float32), np.zeros(2, np.float64)
    begun = schema_of({"a": one, "b": other})
    resumed = schema_of({"b": other, "a": one}, begun.described())
    assert resumed == begun


def test_a_row_whose_outputs_have_other_names_is_a_bad_row(plain: Path, tmp_path: Path) -> None:
    body = """
    p = outputs["prediction"]
    return {"high" if (p[:, 0] > 0).all() else "low": p[:, 0]}
"""
    values = np.tile(features(1), (320, 1))
    values *= np.sign(truth_of(plain, values)[0, 0])  # the model is odd
    values[300] *= -1  # behind the rows that the probe looks at
    chosen = hook(tmp_path, "naming", body)
    write(tmp_path / "in" / "a.parquet", values)
    report = run(plain, tmp_path, batch_size=8, small_shard_rows=0, postprocess=chosen)
    assert report.state == "finished", report.failed
    assert letters(tmp_path)["id"].to_pylist() == [300]
    assert set(published(tmp_path).column_names) == {"id", "high"}


def test_a_hook_may_write_into_the_arrays_that_it_is_given(plain: Path, tmp_path: Path) -> None:
    body = """
    outputs["prediction"] *= 100
    return outputs
"""
    values = features(64)
    write(tmp_path / "in" / "a.parquet", values)
    report = run(plain, tmp_path, batch_size=8, postprocess=hook(tmp_path, "inplace", body))
    assert report.state == "finished", report.failed
    found = np.array(published(tmp_path)["prediction"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, truth_of(plain, values) * 100, rtol=1e-5)


def test_a_hook_that_compares_rows_of_a_batch_is_refused(plain: Path, tmp_path: Path) -> None:
    body = """
    return {"rank": outputs["prediction"][:, 0].argsort().argsort()}
"""
    write(tmp_path / "in" / "a.parquet", features(64))
    with pytest.raises(ModelError, match="depends on the rows that share its batch") as caught:
        run(plain, tmp_path, postprocess=hook(tmp_path, "ranking", body))
    assert "hostile_ranking.py:ranking" in str(caught.value)


def test_lists_of_a_fixed_length_may_hold_lists_of_any() -> None:
    kind = pa.list_(pa.list_(pa.float32()), 2)
    rows = pa.array([[[1, 2, 3], [4, 5, 6]], [[1, 2], [4, 5, 6]]], kind)
    batch = pa.RecordBatch.from_arrays([rows], names=["x"])
    fed = Signature((InputSpec("x", (2, 3), "float32"),), "tensor", (), custom_step=False)
    arrays, _, bad = extract(check(fed, {"x": ("x",)}, batch.schema), batch, 0)
    assert arrays[0].tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert [row.row for row in bad] == [1]


def test_a_row_that_does_not_decompress_is_a_bad_row(plain: Path, tmp_path: Path) -> None:
    # TensorFlow calls it a loss of data, as it calls a disk's: but a graph reads rows alone.
    module = tmp_path / "hostile_unpacking.py"
    module.write_text("""
import tensorflow as tf

def unpack(named):
    values = tf.io.decode_raw(tf.io.decode_compressed(named["packed"], "ZLIB"), tf.float32)
    return tf.reshape(values, [-1, 4])
""")
    values = features(40)
    packed = [zlib.compress(row.tobytes()) for row in values]
    packed[30] = b"no zlib"
    write(tmp_path / "in" / "a.parquet", values, packed=pa.array(packed))
    chosen = {"features": ("packed",), "preprocess": f"{module}:unpack"}
    report = run(plain, tmp_path, batch_size=8, small_shard_rows=0, **chosen)
    assert report.state == "finished", report.failed
    assert letters(tmp_path)["id"].to_pylist() == [30]
    found = np.array(published(tmp_path)["prediction"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, truth_of(plain, np.delete(values, 30, axis=0)), rtol=1e-5)


@pytest.mark.parametrize(
    ("named", "text", "changed"),
    [
        ("hook.py", "from helper import F", "helper.py"),
        ("hook", "import helper as h", "helper.py"),
        ("hook.py", "def f():\n    import kit.tools.deep", "kit/tools/deep.py"),
        ("hook.py", "from kit import tools", "kit/tools/__init__.py"),
        ("kit.hook", "from .other import F", "kit/other.py"),
        ("kit.hook", "from kit import other", "kit/other.py"),
        ("kit.tools.hook", "from ..other import F", "kit/other.py"),
        ("hook.py", "import middle", "helper.py"),
    ],
)
def test_code_that_a_named_module_imports_is_part_of_the_identity(
    named: str, text: str, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for package in ("kit", "kit/tools"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for file in ("helper.py", "kit/other.py", "kit/tools/deep.py", "apart.py"):
        (tmp_path / file).write_text("F = 1\n")
    (tmp_path / "middle.py").write_text("import numpy, helper\n")
    hook_file = tmp_path / f"{named.removesuffix('.py').replace('.', '/')}.py"
    hook_file.write_text(f"{text}\n")
    # Looking for a module imports the packages that it is in, and Python remembers them.
    for name in ("kit", "kit.tools"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = digest_imports([named])
    (tmp_path / "apart.py").write_text("F = 2\n")
    assert digest_imports([named]) == before
    (tmp_path / changed).write_text("F = 2\n")
    assert digest_imports([named]) != before


def test_the_digest_of_a_module_that_imports_installed_packages_alone_is_its_own(
    tmp_path: Path,
) -> None:
    # As it was before imports were followed: an output that was begun then stays its job's.
    module = tmp_path / "alone.py"
    module.write_bytes(b"import json\nimport keras\nfrom pipeline import Job\n")
    own = hashlib.sha256(b"alone.py\0" + module.read_bytes() + b"\0").hexdigest()
    assert digest_imports([str(module)]) == own


def test_packages_that_were_installed_beside_the_users_code_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "deps")
    (tmp_path / "deps" / "vendored-1.0.dist-info").mkdir(parents=True)
    vendored = tmp_path / "deps" / "vendored.py"
    vendored.write_text("F = 1\n")
    (tmp_path / "vending.py").write_text("import vendored\n")
    before = digest_imports([f"{tmp_path}/vending.py"])
    vendored.write_text("F = 2\n")
    assert digest_imports([f"{tmp_path}/vending.py"]) == before


@pytest.mark.parametrize("name", ["pipeline", "json", "numpy"])
def test_a_file_of_the_users_does_not_take_the_place_of_another_module(
    name: str, tmp_path: Path
) -> None:
    there = importlib.import_module(name)
    for folder, said in (("one", 1), ("two", 2)):
        file = tmp_path / folder / f"{name}.py"
        file.parent.mkdir()
        file.write_text(f"def hook():\n    return {said}\n")
    one, two = (load_hook(f"{tmp_path / each}/{name}.py:hook") for each in ("one", "two"))
    assert (one(), two()) == (1, 2)
    assert importlib.import_module(name) is there
    assert load_hook(f"{tmp_path}/one/{name}.py:hook") is one


@pytest.mark.parametrize("changed", ["edited.py", "edited_helper.py"])
def test_code_that_was_edited_since_it_was_imported_is_refused(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a notebook: the old code would run, under the digest of the new.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited.py").write_text("import edited_helper\ndef hook(): return 1\n")
    (tmp_path / "edited_helper.py").write_text("F = 1\n")
    for hook_of in ("edited:hook", f"{tmp_path}/edited.py:hook"):
        assert load_hook(hook_of) is load_hook(hook_of)
    (tmp_path / changed).write_text("def hook(): return 2\n")
    for hook_of in ("edited:hook", f"{tmp_path}/edited.py:hook"):
        with pytest.raises(ModelError, match="was changed since this process imported it"):
            load_hook(hook_of)
    for name in ("edited", "edited_helper"):
        sys.modules.pop(name)


def test_a_module_that_failed_to_import_can_be_mended(tmp_path: Path) -> None:
    file = tmp_path / "mended.py"
    file.write_text("def hook(): return 1\nraise OSError('not yet')\n")
    for _ in range(2):
        with pytest.raises(ModelError, match="failed while it was imported"):
            load_hook(f"{file}:hook")
    file.write_text("def hook(): return 2\n")
    assert load_hook(f"{file}:hook")() == 2


def test_a_module_that_leaves_the_process_is_no_success(tmp_path: Path) -> None:
    script = tmp_path / "hostile_script.py"
    script.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ModelError, match="failed while it was imported") as caught:
        import_module(str(script))
    assert "SystemExit: 0" in str(caught.value)


@pytest.mark.parametrize("kind", ["preprocess", "postprocess"])
def test_a_hook_that_leaves_the_process_is_no_success(
    kind: str, plain: Path, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.parquet", features(8))
    chosen = hook(tmp_path, f"leaving_{kind}", "    raise SystemExit(0)\n")
    with pytest.raises(ModelError, match="SystemExit: 0"):
        run(plain, tmp_path, **{kind: chosen})


def test_a_model_that_leaves_the_process_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: Any, **__: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(cli.typer.main, "get_command", lambda _: leave)
    monkeypatch.setattr(cli, "misspelt_variables", lambda *_: ())
    with pytest.raises(SystemExit) as caught:
        cli.main(["score"])
    assert caught.value.code == ExitCode.CONFIG


def test_reasons_are_the_same_text_in_each_process_and_can_be_written() -> None:
    assert row_reason(ValueError(object())) == "ValueError: <object object at 0x…>"
    assert row_reason(ValueError("no \ud800 in UTF-8")) == "ValueError: no \\ud800 in UTF-8"
    assert row_reason(ValueError("0xff is no code")) == "ValueError: 0xff is no code"


def test_a_mended_dead_letter_file_keeps_its_row_numbers_apart_from_those_of_the_next(
    tmp_path: Path,
) -> None:
    picky = saved(tmp_path, Picky())
    write(tmp_path / "in" / "a.parquet", features(50, [7, 30, 41]))
    run(picky, tmp_path, batch_size=8)
    dead = letters(tmp_path)
    values = np.stack([dead[name].to_numpy() for name in COLUMNS], axis=1).astype(np.float32)
    values[:2] = abs(values[:2])  # the third is not mended
    carried = {name: dead[name] for name in dead.column_names if name.startswith("quarantine_")}
    write(tmp_path / "again" / "in" / "a.parquet", values, **carried)
    assert run(picky, tmp_path / "again", batch_size=8).counts.quarantined == 1
    out = tmp_path / "again" / "out"
    loaded = load_predictions(out, bad_rows=True, as_arrow=True)
    assert loaded["quarantine_row"].to_pylist() == [7, 30, None]  # not 2, its number there


@pytest.mark.parametrize("policy", ["fail", "null", "quarantine"])
def test_two_columns_of_one_name_that_travel_along_break_the_contract(
    policy: str, plain: Path, tmp_path: Path
) -> None:
    values = features(8)
    columns = [*(pa.array(values[:, i]) for i in range(4)), pa.array(range(8)), pa.array(range(8))]
    (tmp_path / "in").mkdir()
    table = pa.Table.from_arrays(columns, names=[*COLUMNS, "id", "id"])
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    (failed,) = run(plain, tmp_path, on_bad_row=policy).failed
    assert isinstance(failed.error, ContractError)
    assert failed.error.message == "a column that is carried along is there twice"
    if policy != "quarantine":
        report = run(plain, tmp_path, on_bad_row=policy, keep=("none",))
        assert report.state == "finished", report.failed


def test_a_score_that_is_no_number_has_no_label() -> None:
    nan = np.nan
    wide = np.array([[0.1, 0.9], [nan, nan], [nan, 0.2]], np.float32)
    found = Classes(("no", "yes"), top_k=2).columns({"p": wide})
    assert found["p_label"].tolist() == ["yes", None, "yes"]
    assert found["p_top_labels"].tolist() == [["yes", "no"], [None, None], ["yes", None]]
    narrow = np.array([[0.1], [0.9], [nan]], np.float16)
    assert Classes(("no", "yes")).columns({"p": narrow})["p_label"].tolist() == ["no", "yes", None]
