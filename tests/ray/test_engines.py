"""One suite for all engines: whoever scores, wherever, the output is the same, and so is what is
told of it. In one process, by worker processes, on Ray, by the pods of the shipped Indexed Job."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.storage import LocalStorage
from tests.conftest import ROOT, Finished, run_command
from tests.e2e import drifting
from tests.e2e.lake import shard
from tests.faults.lake import GROUP_ROWS, Lake, assert_proven, begin, contents, ended, left_over
from tests.faults.test_workers import report_of
from tests.kubernetes.mini_kubelet import MiniKubelet
from tests.kubernetes.rendering import shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ray.conftest import RayCluster, RayRun

OF_ONE_PROCESS = ("--workers", 1, "--threads", 1)
OF_TWO = ("--workers", 2, "--threads", 1)


def digest(output: Path) -> str:
    """Names and bytes of all that is meant to stay, but a plan that several pods share."""
    stays = {n: data for n, data in contents(LocalStorage(output)).items() if "/frozen/" not in n}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in stays.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Told:
    """What a run of the command has told, without what no two runs have in common."""

    code: int
    report: Any
    out: str
    lines: list[str]

    @classmethod
    def of(cls, done: Finished, output: Path) -> Told:
        report = report_of(output)
        outcomes = [
            {k: v for k, v in outcome.items() if k not in {"seconds", "error"}}
            for outcome in sorted(report["outcomes"], key=lambda outcome: outcome["shard"])
        ]
        kept = ("state", "shards", "rows", "probe", "fingerprint", "plan_id", "batch_size")
        lines = [line[26:] for line in done.err.splitlines() if line.startswith("20")]
        return cls(
            done.code,
            {"outcomes": outcomes, **{name: report[name] for name in kept}},
            re.sub(r"(?m)^(time|memory|output): .*\n", "", done.out).replace(str(output), "OUT"),
            sorted(
                line for line in lines if " worker processes" not in line and " Ray " not in line
            ),
        )


def in_this_process(on_ray: RayRun) -> Finished:
    return ended(begin(on_ray.lake.arguments(on_ray.output, *OF_ONE_PROCESS)))


def by_worker_processes(on_ray: RayRun) -> Finished:
    return ended(begin(on_ray.lake.arguments(on_ray.output, *OF_TWO)))


def by_actors(on_ray: RayRun) -> Finished:
    return on_ray.ended()


ENGINES = pytest.mark.parametrize("run", [in_this_process, by_worker_processes, by_actors])


@pytest.fixture(scope="session")
def whole(
    reference: dict[str, bytes], lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> Told:
    """What one process tells."""
    output = tmp_path_factory.mktemp("told") / "out"
    done = ended(begin(lake.arguments(output, *OF_ONE_PROCESS)))
    assert contents(LocalStorage(output)) == reference
    return Told.of(done, output)


@pytest.fixture(scope="session")
def expected(reference: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the output that one process makes."""
    folder = tmp_path_factory.mktemp("reference")
    for name, data in reference.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return digest(folder)


@ENGINES
def test_each_engine_writes_the_same_output_and_tells_the_same(
    run: Callable[[RayRun], Finished], on_ray: RayRun, expected: str, whole: Told
) -> None:
    done = run(on_ray)
    assert done.code == 0, done.err
    assert digest(on_ray.output) == expected
    assert left_over(LocalStorage(on_ray.output)) == []
    assert_proven(LocalStorage(on_ray.output))
    assert Told.of(done, on_ray.output) == whole


def test_the_pods_of_the_indexed_job_write_the_same_output(
    lake: Lake, expected: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    shutil.copytree(lake.shards, volume / "input")
    shutil.copy2(lake.model, volume / "model.keras")
    variables = {
        "SHARDSCORE_BATCH_SIZE": str(lake.batch_size),
        "SHARDSCORE_CHECKPOINT_EVERY": str(lake.every),
        "GROUP_ROWS": str(GROUP_ROWS),
    }
    verdict = MiniKubelet(
        shipped("local-volume"),
        tmp_path / "pods",
        [sys.executable, "-m", "tests.faults.arithmetic"],
        {"shardscore-data": volume},
        variables=lambda _index, _attempt: variables,
    ).run()
    assert verdict.condition == "Complete"
    assert digest(volume / "output") == expected


@pytest.fixture(scope="session")
def digits_of_a_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real model, whose sums depend on how they are cut up, and shards for it."""
    import keras

    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(7)
    inputs = {name: keras.Input((1,), name=name) for name in ("a", "b")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    hidden = keras.layers.Dense(256, "relu")(joined)
    keras.Model(inputs, keras.layers.Dense(3, "softmax")(hidden)).save(folder / "m.keras")
    for number, rows in enumerate((700, 300, 5, 6)):
        shard(folder / "lake" / f"{number}.parquet", rows)
    return folder / "m.keras", folder / "lake"


def test_a_model_of_tensorflows_predicts_the_same_bits_on_each_engine(
    digits_of_a_model: tuple[Path, Path], cluster: RayCluster, tmp_path: Path
) -> None:
    model, shards = digits_of_a_model
    engines = {
        "one": OF_ONE_PROCESS,
        "two": OF_TWO,
        "ray": (*OF_TWO, "--engine", "ray", "--ray-address", cluster.address),
    }
    digests = set()
    for name, engine in engines.items():
        output = tmp_path / name
        done = run_command(
            *("score", "--model", model, "--input", shards, "--output", output),
            *("--batch-size", 64, *engine),
            cwd=ROOT,
        )
        assert done.code == 0, done.err
        digests.add(digest(output))
    assert len(digests) == 1


def test_what_has_drifted_is_refused_on_each_engine_with_the_same_verdict(
    cluster: RayCluster, tmp_path: Path
) -> None:
    before = drifting.scored(drifting.sampled(tmp_path / "first", 0), tmp_path / "before")
    assert before.code == 0, before.err
    guarded = ("--baseline", tmp_path / "before", "--max-drift", 0.25)
    alike = drifting.sampled(tmp_path / "alike", 1)
    later = drifting.sampled(tmp_path / "later", 1, delay=20)
    engines = {
        "one": OF_ONE_PROCESS,
        "ray": (*OF_TWO, "--engine", "ray", "--ray-address", cluster.address),
    }
    verdicts = []
    for name, engine in engines.items():
        accepted, refused = tmp_path / f"{name}-alike", tmp_path / f"{name}-later"
        done = drifting.scored(alike, accepted, *guarded, *engine)
        assert (done.code, (accepted / "_SUCCESS").exists()) == (0, True), done.err
        done = drifting.scored(later, refused, *guarded, *engine)
        assert (done.code, (refused / "_SUCCESS").exists()) == (65, False), done.err
        verdicts.append([drifting.report_of(output)["drift"] for output in (accepted, refused)])
    assert verdicts[0] == verdicts[1]
