"""What `plan` says before a row is read: what is certainly wrong, and what will happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.lake import shard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def triage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one number a row: four scores, `team`, and one, `urgency`."""
    import keras

    a = keras.Input((1,), name="a")
    team = keras.layers.Dense(4, "softmax", name="team")(a)
    urgency = keras.layers.Dense(1, name="urgency")(a)
    path = tmp_path_factory.mktemp("triage") / "triage.keras"
    keras.Model({"a": a}, {"team": team, "urgency": urgency}).save(path)
    return path


def job(path: Path, **said: object) -> Path:
    """A job file; what it says is Python's text of a value, here the same as TOML's."""
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in said.items()))
    return path


@pytest.fixture
def classes(triage: Path, lake: Path, tmp_path: Path) -> Any:
    def written(**more: object) -> Path:
        said = {"model": str(triage), "input": str(lake), "output": str(tmp_path / "out"), **more}
        return job(tmp_path / "job.toml", **said)

    return written


FOUR = ["billing", "access", "network", "other"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"labels": FOUR, "label_output": "urgency"}, "an output of one score a row has two"),
        ({"labels": FOUR, "label_output": "teams"}, "no output of the name that label_output says"),
        ({"labels": FOUR[:3], "label_output": "team"}, "labels are not as many as the classes"),
        ({"labels": FOUR, "label_output": "team", "top_k": 5}, "top_k is more than there are"),
    ],
)
def test_a_plan_refuses_labels_that_cannot_fit_as_the_run_does(
    said: dict[str, object], expected: str, classes: Any, cli: Any
) -> None:
    path = classes(**said)
    planned, scored = cli("plan", "-c", path), cli("score", "-c", path)
    assert planned.code == scored.code == 78
    assert expected in planned.err
    # The same words; a run writes its log before them.
    assert scored.err.endswith(planned.err)


def test_a_plan_names_the_labels_columns(classes: Any, cli: Any) -> None:
    planned = cli("plan", "-c", classes(labels=FOUR, label_output="team", top_k=2), "--json")
    assert planned.code == 0
    assert list(planned.document["predictions"]) == [
        "team",
        "urgency",
        "team_label",
        "team_top_labels",
        "team_top_scores",
    ]


@pytest.mark.parametrize(
    "body",
    ["return np.array([[1.0, 2.0, 3.0, 4.0] for _ in out['team']])", "return out['team'][[3]]"],
)
def test_a_hook_that_takes_rows_is_no_reason_to_refuse_a_plan(
    body: str, classes: Any, cli: Any, tmp_path: Path
) -> None:
    hook = tmp_path / f"hook_{len(body)}.py"
    hook.write_text(f"import numpy as np\n\ndef finish(out):\n    {body}\n")
    planned = cli("plan", "-c", classes(labels=FOUR, postprocess=f"{hook}:finish"))
    assert planned.code == 0, planned.err
    assert "predicted" in planned.out


def test_a_plan_names_the_kept_columns_and_that_of_reasons(classes: Any, cli: Any) -> None:
    path = classes(on_bad_row="null")
    document = cli("plan", "-c", path, "--json").document
    assert document["kept"] == ["id", "b"]
    assert list(document["predictions"]) == ["team", "urgency", "bad_row_reason"]
    told = [line.split() for line in cli("plan", "-c", path).out.splitlines()]
    assert ["kept:", "id,", "b"] in told
    assert ["bad_row_reason", "string"] in told
    assert ["kept:", "no", "column"] in [
        line.split() for line in cli("plan", "-c", classes(keep="none")).out.splitlines()
    ]


def test_a_column_that_is_part_of_the_folders_names_needs_no_keeping(
    classes: Any, cli: Any, tmp_path: Path
) -> None:
    shard(tmp_path / "hive" / "month=6" / "1.parquet")
    said = {"input": str(tmp_path / "hive"), "keep": ["id", "month"]}
    for command in ("plan", "score"):
        done = cli(command, "-c", classes(**said))
        assert done.code == 78
        assert "--keep names what no file holds: it is part of the names of folders" in done.err
        assert "received: folder month=6/" in done.err
        assert "to do:    leave it out of --keep: the output has the same folders" in done.err
