"""The command with `--engine ray`: what it refuses, how it stops, and what it leaves alone."""

from __future__ import annotations

import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from jobs.engines import ray_cluster
from pipeline.errors import ConfigError, EngineError
from pipeline.storage import LocalStorage
from tests.conftest import Finished
from tests.faults.lake import (
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    scored_rows,
    wait_for,
)
from tests.faults.test_workers import is_there, report_of
from tests.ray.conftest import BIG, RayRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import Popen

    from tests.faults.lake import Lake


def options(lake: Lake, output: Path, *more: object) -> list[str]:
    return lake.arguments(output, "--engine", "ray", *more)


# What is refused


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody listens, takes what is said, and is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_an_address_where_nobody_listens_is_75_and_names_it(
    cli: Callable[..., Finished], lake: Lake, free_port: int, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port}"
    done = cli(*options(lake, tmp_path / "out", "--ray-address", address))
    assert done.code == 75
    assert f"no cluster of Ray's answers at {address}" in done.err
    assert "refused" in done.err
    assert "--ray-address" in done.err
    assert contents(LocalStorage(tmp_path / "out")) == {}


def test_an_address_where_somebody_else_listens_is_no_reason_to_wait_for_ever(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 4.0)
    with pytest.raises(EngineError, match="no cluster of Ray's answers") as error:
        ray_cluster.connected(f"127.0.0.1:{silent_port}")
    assert error.value.received == "no answer within 4 s"


def test_an_address_of_rays_client_is_78(
    cli: Callable[..., Finished], lake: Lake, tmp_path: Path
) -> None:
    done = cli(*options(lake, tmp_path / "out", "--ray-address", "ray://head:10001"))
    assert done.code == 78
    assert "a driver of Ray's runs on a node of the cluster" in done.err


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray is not installed") as error:
        ray_cluster.connected("127.0.0.1:6379")
    assert "pip install 'shardscore[ray]'" in (error.value.hint or "")


def test_an_address_without_the_engine_is_64(
    cli: Callable[..., Finished], lake: Lake, tmp_path: Path
) -> None:
    done = cli(*lake.arguments(tmp_path / "out", "--ray-address", "head:6379"))
    assert done.code == 64
    assert "--engine ray" in done.err


def test_a_run_with_nothing_to_do_asks_for_no_cluster(lake: Lake, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert ended(begin(lake.arguments(output))).code == 0
    done = ended(begin(options(lake, output, "--ray-address", "nowhere:6379")))
    assert done.code == 0, done.err


def test_actors_that_see_another_output_are_refused(on_ray: RayRun, tmp_path: Path) -> None:
    done = on_ray.ended(BLIND=str(tmp_path / "elsewhere"))
    assert done.code == 78, done.err
    assert "of the cluster does not see the output that this run has begun" in done.err
    assert "an object store, or a volume" in done.err
    assert not list(on_ray.output.glob("*.parquet"))


def test_nodes_without_the_program_are_78(on_ray: RayRun) -> None:
    done = on_ray.ended(LACKS="jobs")
    assert done.code == 78, done.err
    assert "No module named 'jobs'" in done.err
    assert "pip install 'shardscore[ray]' on each node" in done.err
    assert done.err.count("error:") == 1


# How it ends


def under_way(on_ray: RayRun, run: Popen[str]) -> list[int]:
    """Waits until each actor scores a big shard; returns their processes."""
    names = [f"{name}.parquet" for name in BIG]
    wait_for(lambda: all(len(scored_rows(on_ray.told, name)) >= 2 for name in names), run)
    return list(on_ray.actors())


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_has_each_actor_save_what_it_has_scored(
    signum: int, code: int, on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    run = on_ray.begin("--checkpoint-every", 3600, PAUSE="0.3")
    pids = under_way(on_ray, run)
    run.send_signal(signum)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert "stopped before all shards were scored" in err
    assert "received at time" not in err, "Ray's own handler"
    assert "8 left" in out
    wait_for(lambda: not any(map(is_there, pids)))
    assert_whole(on_ray.output, reference)
    begun = {name: scored_rows(on_ray.told, f"{name}.parquet") for name in BIG}
    later = on_ray.folder / "later"
    done = ended(begin(on_ray.lake.arguments(on_ray.output, "--workers", 1), SCORED=str(later)))
    assert done.code == 0, done.err
    assert_finished(on_ray.output, reference)
    for name, batches in begun.items():
        first = scored_rows(later, f"{name}.parquet")[0][0]
        assert first == batches[-1][1], "rows were scored twice, or passed over"


def test_the_driver_holds_the_output_and_a_second_signal_ends_it_and_its_actors_at_once(
    on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    run = on_ray.begin(PAUSE="20")
    wait_for(lambda: (on_ray.output / "_shardscore/run.json").exists(), run)
    pids = list(on_ray.actors())
    other = ended(begin(on_ray.lake.arguments(on_ray.output)))
    assert other.code == 75
    assert "another run is at work on this output" in other.err
    run.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=15)
    assert run.returncode == -signal.SIGTERM, err
    wait_for(lambda: not any(map(is_there, pids)))
    assert_whole(on_ray.output, reference)


# What it tells


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("storage", 74, "the disk is on fire"),
        ("exit", 78, "ends the process"),
    ],
)
def test_what_ends_an_actor_ends_the_run_as_with_one_process(
    raised: str, code: int, told: str, on_ray: RayRun, reference: dict[str, bytes]
) -> None:
    done = on_ray.ended(PAUSE="0.05", RAISES="big-1.parquet", RAISED=raised)
    assert done.code == code, done.err
    assert told in done.err
    assert_whole(on_ray.output, reference)


def test_too_many_bad_rows_fail_a_shard_and_fail_fast_ends_the_run(on_ray: RayRun) -> None:
    done = on_ray.ended("--max-bad-rows", 0, "--fail-fast", PAUSE="0.05")
    assert done.code == 65, done.err
    assert report_of(on_ray.output)["state"] == "incomplete"
