"""What the predictions of an output look like: kept beside the manifest, or added up anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline import looks, manifest
from pipeline.errors import ConfigError, DriftError
from pipeline.layout import MANIFEST, PREDICTIONS, REFUSED, SUCCESS
from pipeline.sketch import text_of
from tests.unit.outputs import IDENTITY, Made, finished, note_for, rows, scored

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.distributions import Distributions


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return finished(tmp_path)


def told(found: Distributions) -> tuple[int, int, str]:
    return found.shards, found.without, text_of(found.sketches())


def test_what_is_kept_is_what_the_footers_say(made: Made) -> None:
    kept = looks.of_output(made.storage)
    assert kept.columns["prediction"].rows == 17
    made.storage.delete(PREDICTIONS)
    assert told(looks.of_output(made.storage)) == told(kept)


def test_what_is_kept_needs_no_published_file(made: Made) -> None:
    before = told(looks.of_output(made.storage))
    for path in made.out.rglob("*.parquet"):
        path.write_bytes(b"")
    assert told(looks.of_output(made.storage)) == before


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b'{"manifest_sha256": "other"}',
        lambda text: text.replace(b'"shards": 3', b'"shards": "?"'),
        lambda text: text.replace(b"predictions", b"elsewhere"),
    ],
)
def test_what_cannot_be_read_is_added_up_anew(made: Made, damage: object) -> None:
    before = told(looks.of_output(made.storage))
    path = made.out / PREDICTIONS
    data = damage(path.read_bytes()) if callable(damage) else damage
    path.write_bytes(data)
    assert told(looks.of_output(made.storage)) == before


def test_that_of_another_manifest_is_passed_over(made: Made) -> None:
    (made.out / "b.parquet").unlink()
    (made.out / MANIFEST).write_text("{}")
    assert looks.of_output(made.storage).columns["prediction"].rows == 10


def test_files_of_another_job_are_left_out(made: Made) -> None:
    made.storage.delete(PREDICTIONS)
    before = told(looks.of_output(made.storage))
    source = replace(made.shards["a.parquet"], name="stray.parquet")
    made.publish("stray.parquet", scored(rows(10)), replace(note_for(source), fingerprint="d" * 64))
    assert told(looks.of_output(made.storage)) == before


def judged(made: Made, error: Exception | None, *, idle: bool) -> bool:
    def accept(found: Distributions) -> None:
        assert found.shards == 3
        if error is not None:
            raise error

    shards = tuple(made.shards.values())
    return manifest.complete(
        made.storage, IDENTITY.fingerprint, made.plan_id, shards, idle=idle, accept=accept
    )


def is_there(made: Made) -> dict[str, bool]:
    return {name: (made.out / name).exists() for name in (MANIFEST, SUCCESS, REFUSED)}


@pytest.mark.parametrize("idle", [True, False])
def test_what_is_refused_has_a_manifest_alone_until_it_is_accepted(
    made: Made, *, idle: bool
) -> None:
    with pytest.raises(DriftError):
        judged(made, DriftError("drifted"), idle=idle)
    assert is_there(made) == {MANIFEST: True, SUCCESS: False, REFUSED: True}
    proof = made.verified()
    assert any("have drifted" in note for note in proof.notes)
    assert judged(made, None, idle=idle)
    assert is_there(made) == {MANIFEST: True, SUCCESS: True, REFUSED: False}


@pytest.mark.parametrize("idle", [True, False])
def test_a_baseline_that_is_wrong_changes_no_mark(made: Made, *, idle: bool) -> None:
    before = {name: (made.out / name).read_bytes() for name in (MANIFEST, SUCCESS)}
    with pytest.raises(ConfigError):
        judged(made, ConfigError("other predictions"), idle=idle)
    assert {name: (made.out / name).read_bytes() for name in (MANIFEST, SUCCESS)} == before


def test_a_refusal_of_other_predictions_says_nothing(made: Made) -> None:
    (made.out / REFUSED).write_text(json.dumps({"manifest_sha256": "0" * 64}))
    assert not manifest.is_refused(made.storage, (made.out / MANIFEST).read_bytes())
    (made.out / REFUSED).write_text("{")
    assert not manifest.is_refused(made.storage, (made.out / MANIFEST).read_bytes())
