"""What a run on Ray loses with a node, with an actor, and with a shard that takes actors with it:
nothing, nothing, and that shard alone."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.faults.lake import assert_finished, assert_whole, scored_rows, wait_for
from tests.faults.test_workers import is_there, report_of
from tests.ray.conftest import BIG, NODES, RayRun

if TYPE_CHECKING:
    from subprocess import Popen

BATCHES = sum(-(-rows // 8) for rows, _ in BIG.values())


def scored(on_ray: RayRun) -> list[tuple[str, int]]:
    """The batches of big shards that were scored, each as often as it was."""
    return [
        (name, first) for name in BIG for first, _ in scored_rows(on_ray.told, f"{name}.parquet")
    ]


def half_way(on_ray: RayRun, run: Popen[str]) -> dict[int, str]:
    """Waits until half of it is scored; returns the actors and their nodes."""
    wait_for(lambda: len(scored(on_ray)) >= BATCHES // 2, run)
    return {pid: node for pid, node in on_ray.actors().items() if is_there(pid)}


def as_reported(on_ray: RayRun) -> Any:
    report = report_of(on_ray.output)
    return report["state"], report["shards"]["published"], report["rows"]["in"]


ALL_IS_DONE = ("finished", 8, sum(rows for rows, _ in BIG.values()) + sum(range(3, 8)))


def test_a_node_that_is_removed_at_half_time_costs_no_byte(
    on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    run = on_ray.begin("--json", PAUSE="0.15", PRINTS="a line of the model's")
    actors = half_way(on_ray, run)
    assert len(set(actors.values())) == NODES, "an actor a node"
    on_ray.cluster.remove(next(n for n in actors.values() if n in on_ray.cluster.removable))
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert "was lost on node" in err
    assert "a line of the model's" in err
    assert json.loads(out)["workers"] == NODES, "the result alone is on standard output"
    assert_finished(on_ray.output, reference)
    assert as_reported(on_ray) == ALL_IS_DONE
    # What was saved before it was lost is not scored again: each batch is, here.
    assert len(scored(on_ray)) - len(set(scored(on_ray))) <= 2


def test_an_actor_that_is_killed_costs_no_byte(on_ray: RayRun, reference: dict[str, bytes]) -> None:
    run = on_ray.begin(PAUSE="0.15")
    os.kill(next(iter(half_way(on_ray, run))), signal.SIGKILL)
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert "was lost on node" in err
    assert "raylet" not in out + err, "Ray's own words"
    assert_finished(on_ray.output, reference)
    assert as_reported(on_ray) == ALL_IS_DONE


def test_a_poison_shard_is_left_after_three_losses_and_the_others_are_scored(
    on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    done = on_ray.ended(DIES="big-1.parquet")
    assert done.code == 75, done.err
    assert done.err.count("while scoring big-1.parquet;") == 3
    assert "that was lost 3 times, and is left" in done.err
    assert_whole(on_ray.output, reference)
    missing = {name for name in reference if not (on_ray.output / name).exists()}
    of_all = {"_SUCCESS", "_MANIFEST.json", "_shardscore/predictions.json"}
    letters = {name for name in reference if "quarantine/big-1" in name}
    assert missing == {"big-1.parquet"} | of_all | letters
    report = report_of(on_ray.output)
    assert (report["state"], report["error"]["kind"]) == ("broken", "WorkerDiedError")


def test_a_run_on_ray_is_finished_by_one_on_this_machine(
    on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    run = on_ray.begin(PAUSE="0.15")
    actors = half_way(on_ray, run)
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(is_there, actors)))
    assert_whole(on_ray.output, reference)
    from tests.faults.lake import begin, ended

    done = ended(begin(on_ray.lake.arguments(on_ray.output, "--workers", 2)))
    assert done.code == 0, done.err
    assert_finished(on_ray.output, reference)
