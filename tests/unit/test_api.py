"""The library's front door: which names there are, that they are light, and what they raise."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pipeline
from pipeline import api
from pipeline.errors import IncompleteError, NoInputError, ScoringError, StorageError
from pipeline.progress import Observer, Silent
from pipeline.records import Outcome, RunReport
from pipeline.spans import Span
from tests.unit import outputs

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    """What code prints in a fresh interpreter, where nothing was imported before."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The names


def test_the_public_names_are_these() -> None:
    assert pipeline.__all__ == sorted(
        ["Job", "ShardscoreError", "load_predictions", "plan", "score", "verify"]
    )


@pytest.mark.parametrize("name", pipeline.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(pipeline, name)
    assert not isinstance(found, ModuleType)
    assert inspect.getdoc(found)
    assert name in dir(pipeline)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = pipeline.predict  # type: ignore[attr-defined]


def test_importing_the_package_brings_nothing_heavy_in() -> None:
    heavy = {"tensorflow", "keras", "pyarrow", "pandas", "numpy", "pydantic"}
    assert python(f"import pipeline, sys; print({heavy!r} & set(sys.modules))") == "set()\n"


def test_status_imports_neither_pyarrow_nor_numpy_though_it_reads_plan_and_checkpoints(
    tmp_path: Path,
) -> None:
    made = outputs.finished(tmp_path)
    saved = Span("z.parquet", 0, 64, "0" * 32)
    made.storage.create(saved.name, b"never opened")
    told, heavy = python(f"""
        import json, sys
        from jobs.cli import main
        try:
            main(["status", {str(made.out)!r}, "--json"])
        except SystemExit as end:
            assert not end.code
        print("---")
        print({{"tensorflow", "keras", "pyarrow", "pandas", "numpy"}} & set(sys.modules))
    """).split("---\n")
    document = json.loads(told)
    assert document["shards"] == {"total": 3, "published": 3}
    assert document["in_progress"] == {"z.parquet": 64}
    assert heavy == "set()\n"


def test_loading_and_verifying_do_without_tensorflow() -> None:
    code = "import sys; from pipeline import *; print({'tensorflow', 'keras'} & set(sys.modules))"
    assert python(code) == "set()\n"


@pytest.mark.parametrize(
    "first",
    [
        "import pipeline.verify, pipeline.plan",
        "from pipeline.verify import verify; from pipeline.plan import work_units",
        "import pipeline.preview, pipeline.run, jobs.cli",
        "from pipeline import score",
    ],
)
def test_a_name_is_the_function_whatever_was_imported_before(first: str) -> None:
    printed = python(f"""
        {first}
        from pipeline import plan, verify
        import pipeline.plan, pipeline.verify
        from pipeline.verify import verify as inner
        from pipeline.plan import work_units
        print(plan.__module__, verify.__module__, inner.__module__, work_units.__module__)
        print(pipeline.plan is plan, pipeline.verify is verify)
    """)
    assert printed == "pipeline.api pipeline.api pipeline.verify pipeline.plan\nTrue True\n"


# Scoring


def report(state: str = "finished", **facts: Any) -> RunReport:
    given: dict[str, Any] = {
        "run_id": "r", "started": "", "seconds": 0, "output": "out", "plan_id": "",
        "fingerprint": "", "model_sha256": "", "batch_size": 0, "probe": "", "shards": 1,
        "shards_done_before": 0, "counts": None, "outcomes": (), "memory_after_load": 0,
        "memory_peak": 0, "versions": {},
    }  # fmt: skip
    return RunReport(state=state, **{**given, **facts})  # type: ignore[arg-type]


def scored(monkeypatch: pytest.MonkeyPatch, ended: RunReport, **options: Any) -> RunReport:
    """`score()` of a run that ends with a report."""
    monkeypatch.setattr("pipeline.run.score", lambda *_args, **_options: ended)
    return api.score(None, **options)  # type: ignore[arg-type]


def test_a_finished_run_gives_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = report()
    assert scored(monkeypatch, ended) is ended


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        (report("broken", error=StorageError("the disk is full")), StorageError),
        (
            report(
                "incomplete",
                outcomes=(
                    Outcome("a", "published", None),  # type: ignore[arg-type]
                    Outcome("b", "failed", error=ScoringError("the model raised")),
                ),
            ),
            ScoringError,
        ),
        (report("incomplete"), IncompleteError),
    ],
)
def test_work_that_is_left_raises_unless_the_report_is_asked_for(
    ended: RunReport, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind):
        scored(monkeypatch, ended)
    assert scored(monkeypatch, ended, check=False) is ended


def test_the_silent_observer_is_an_observer_that_shows_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    observer: Observer = Silent()
    observer.event("name", "text", level="error")
    observer.begin(rows=1, shards=1)
    observer.advance(1)
    observer.shard(Outcome("a", "failed", error=ScoringError("the model raised")))
    observer.standing(report())
    observer.end()
    assert capfd.readouterr() == ("", "")


# Verifying


@pytest.mark.parametrize("address", [str, Path])
def test_an_output_is_verified_by_its_address(address: Any, tmp_path: Path) -> None:
    made = outputs.finished(tmp_path)
    proof = pipeline.verify(address(made.out))
    assert (proof.faults, proof.unfinished, proof.compared) == ([], {}, 3)
    assert pipeline.verify(address(made.out), inputs=address(made.lake)).compared == 3
    assert pipeline.verify(address(made.out), inputs=()).compared == 0
    assert pipeline.verify(address(made.out), quick=True).quick
    (made.out / "b.parquet").unlink()
    assert list(pipeline.verify(address(made.out)).unfinished) == ["b.parquet"]


def test_what_is_no_output_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(NoInputError):
        pipeline.verify(tmp_path / "typo")


def test_a_name_that_is_not_public_is_told_as_python_tells_it() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'scored'"):
        _ = pipeline.scored
    assert {"score", "plan", "verify"} <= set(dir(pipeline))
