"""Models as files and folders, without opening one: their kind, their digest, what Keras' files
tell from outside, and what a signature does with arrays."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.input_options import InputOptions
from pipeline.keras_file import refuse_code, unknown_class
from pipeline.model_file import at_hand, digest_of, kind_of
from pipeline.model_folder import digest_of_folder
from pipeline.signature import InputSpec, Signature, said_signature
from pipeline.storage import storage_at

if TYPE_CHECKING:
    from pathlib import Path

_names = itertools.count()


def put(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def stored(files: dict[str, bytes]) -> str:
    """The address of files on an object store."""
    address = f"memory://model-files/{next(_names)}"
    for name, content in files.items():
        storage_at(address).create(name, content)
    return address


MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"i", "assets/words.txt": b"a\n"}


# Kinds


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("s3://bucket/m.keras", "keras"),
        ("s3://bucket/m.h5", "hdf5"),
        ("s3://bucket/m.hdf5", "hdf5"),
        ("gs://bucket/model", "saved_model"),
        ("az://bucket/model/", "saved_model"),
        ("s3://bucket/model.v2/", "saved_model"),
        ("s3://bucket/model.keras/", "saved_model"),
    ],
)
def test_the_kind_of_a_remote_model_is_told_by_its_address(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_the_kind_of_a_local_model_is_told_by_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, {"m.keras": b"", "m.h5": b"", "folder.keras/saved_model.pb": b""})
    assert kind_of(str(tmp_path / "m.keras")) == "keras"
    assert kind_of(str(tmp_path / "m.h5")) == "hdf5"
    assert kind_of(str(tmp_path / "folder.keras")) == "saved_model"


# Digests


def test_a_folder_has_one_digest_wherever_it_is(tmp_path: Path) -> None:
    here, away = put(tmp_path / "here", MODEL), stored(MODEL)
    (tmp_path / "link").symlink_to("here")
    assert digest_of(here) == digest_of(f"{here}/") == digest_of(away) == digest_of(f"{away}/")
    assert digest_of(str(tmp_path / "link")) == digest_of(here)


def test_the_digest_of_a_folder_is_fixed() -> None:
    """It is in the notes of published files: another way to compute it would strand these."""
    fixed = "8e146ed1ecd8ee8026e3befef2fe2528064dee9ceee7d5df03a1f21dd1dfd7de"
    assert digest_of(stored(MODEL)) == fixed


@pytest.mark.parametrize(
    "change",
    [
        {"assets/words.txt": b"b\n"},
        {"assets/more.txt": b""},
        {".hidden": b""},
        {"_started": b""},
        {"assets/words.txt": None},
        {"assets/words.txt": None, "assets/word.txt": b"a\n"},
        {"assets/words.txt": None, "words.txt": b"a\n"},
        {"variables/variables.index": b"", "assets/words.txt": b"ia\n"},
    ],
    ids=str,
)
def test_any_change_of_a_folder_is_another_digest(change: dict[str, bytes | None]) -> None:
    changed = {k: v for k, v in {**MODEL, **change}.items() if v is not None}
    assert digest_of(stored(changed)) != digest_of(stored(MODEL))


trees = st.dictionaries(st.text("ab", min_size=1, max_size=2), st.binary(max_size=3), max_size=3)


@given(trees, trees)
def test_no_two_folders_share_a_digest(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    one, two = ({**tree, "saved_model.pb": b""} for tree in (one, two))
    assert (digest_of(stored(one)) == digest_of(stored(two))) is (one == two)


def test_a_remote_folder_is_at_hand_as_it_was_digested_and_gone_afterwards() -> None:
    away = stored(MODEL)
    with at_hand(away) as (folder, sha256):
        found = {
            p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*")
            if p.is_file()
        }
        assert found == MODEL
        assert sha256 == digest_of(away) == digest_of(str(folder))
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    here = put(tmp_path / "here", MODEL)
    (tmp_path / "here" / "assets" / "again.txt").symlink_to("words.txt")
    assert digest_of(here) == digest_of(stored({**MODEL, "assets/again.txt": b"a\n"}))


@pytest.mark.parametrize("target", ["/etc/hostname", "../../other", "nowhere", "."])
def test_other_links_are_refused(target: str, tmp_path: Path) -> None:
    here = put(tmp_path / "here", MODEL)
    (tmp_path / "other").write_text("x")
    (tmp_path / "here" / "assets" / "link").symlink_to(target)
    with pytest.raises(ModelError, match="a link that is not followed"):
        digest_of(here)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", "./x", "a\\..\\x"])
def test_an_object_whose_name_leads_out_is_never_written(name: str, tmp_path: Path) -> None:
    away = stored(MODEL)
    bucket = storage_at(away)._bucket  # type: ignore[attr-defined]
    prefix = away.removeprefix("memory://model-files/")
    bucket.objects[f"{prefix}/{name}"] = bucket.objects[f"{prefix}/saved_model.pb"]
    copy = tmp_path / "a" / "copy"
    copy.mkdir(parents=True)
    with pytest.raises(ModelError, match="whose name leads out of it"):
        digest_of_folder(away, copy)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


# What Keras' files tell from outside


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}


def test_code_is_found_wherever_it_hides() -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEA"}}
    inner = layer("Wrapper", "outer", parts=[{"deep": layer("Dense", "dense", activation=code)}])
    with pytest.raises(ModelError) as caught:
        refuse_code({"class_name": "Functional", "config": {"layers": [inner]}}, "m.keras")
    assert "'dense'" in str(caught.value)


def test_a_lambda_layer_around_a_named_function_is_left_to_keras() -> None:
    named = {"class_name": "function", "config": "f", "registered_name": "mine>f"}
    refuse_code(layer("Lambda", "named", function=named), "m.keras")


def test_a_name_cannot_drive_the_terminal() -> None:
    code = {"class_name": "__lambda__", "config": {}}
    with pytest.raises(ModelError) as caught:
        refuse_code(layer("Lambda", "\x1b[2J", function=code), "m.keras")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"module": "keras.layers", "class_name": "Dense", "registered_name": None}, False),
        ({"module": "keras.src.models", "class_name": "Functional", "registered_name": "F"}, False),
        ({"module": "builtins", "class_name": "function", "registered_name": "f"}, False),
        ({"class_name": "Dense"}, False),
        ({"module": None, "class_name": "Mine", "registered_name": "pkg>Mine"}, True),
        ({"module": "mine", "class_name": "Mine", "registered_name": None}, True),
        ({"module": "kerasish", "class_name": "Mine", "registered_name": None}, True),
        ({"class_name": "pkg>Mine"}, True),
        ({"module": "mine", "class_name": "Known", "registered_name": "pkg>Known"}, False),
    ],
)
def test_the_class_that_is_missing_is_named(part: dict[str, Any], found: bool) -> None:
    config = {"layers": [{**part, "config": {"name": "it"}}]}
    unknown = unknown_class(config, lambda name: name == "pkg>Known")
    assert (unknown is not None) is found
    assert unknown is None or unknown.layer == "it"


# Signatures


def signature(structure: Any, nest: Any = None, count: int = 3) -> Signature:
    specs = tuple(InputSpec("abc"[i], (), "float32") for i in range(count))
    return Signature(specs, structure, (), custom_step=False, nest=nest)


def test_arrays_are_packed_as_the_model_is_nested() -> None:
    assert signature("tensor", count=1).pack([1]) == 1
    assert signature("dict").pack([1, 2, 3]) == {"a": 1, "b": 2, "c": 3}
    assert signature("list").pack([1, 2, 3]) == ((1, 2, 3),)
    nest = {"x": (0, {"y": 2}), "z": 1}
    assert signature("dict", nest).pack([1, 2, 3]) == {"x": (1, {"y": 3}), "z": 2}
    assert signature("list", ((0, 1), 2)).pack([1, 2, 3]) == (((1, 2), 3),)


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        ("bfloat16", 2),
        ("complex64", 8),
        ("string", 16),
        ("bool", 1),
        ("float8_e4m3fn", 1),
        ("resource", 8),
    ],
)
def test_each_type_has_a_width(dtype: str, width: int) -> None:
    assert InputSpec("x", (3, None), dtype).row_bytes == 3 * width


def test_the_job_can_say_what_a_model_takes() -> None:
    one = said_signature({"x": InputOptions(dtype="int32", shape=(3,))})
    assert one.structure == "tensor"
    assert one.inputs == (InputSpec("x", (3,), "int32", declared=False),)
    two = said_signature(
        {name: InputOptions(dtype="string", shape=()) for name in ("b", "a")},
    )
    assert two.structure == "dict"
    assert [spec.name for spec in two.inputs] == ["b", "a"]
