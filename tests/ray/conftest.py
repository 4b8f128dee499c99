"""A real Ray cluster of three nodes on this machine, begun once for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.storage import LocalStorage
from tests.conftest import ROOT, Finished, environment
from tests.faults.lake import GROUP_ROWS, Lake, begin, contents, ended, make_lake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODES = 3
BIG = {"big-1": (203, (3, 90)), "big-2": (190, ()), "big-3": (97, (96,))}
SMALL = {f"small-{i}": (3 + i, (1,)) for i in range(5)}
_CLUSTER = {
    "PYTHONPATH": str(ROOT),  # the image of a real cluster's nodes has the package installed
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # other tests' memory is no affair of these
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == ROOT / "tests/ray":
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session", autouse=True)
def _a_wide_screen() -> Iterator[None]:
    """What is told is compared between runs: no line is to break where a folder's name ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "1000")
        yield


@dataclass
class RayCluster:
    """A cluster, each node of which has one CPU.

    Attributes:
        address: Its head's.
    """

    address: str
    _cluster: Any
    _nodes: list[Any]

    def remove(self, node_id: str) -> None:
        """Takes a node away, which must not be the head, with all that runs on it."""
        (node,) = (node for node in self._nodes if node.node_id == node_id)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    @property
    def removable(self) -> set[str]:
        """The ids of the nodes that can be taken away."""
        return {node.node_id for node in self._nodes}

    def complete(self) -> None:
        """Adds the nodes that are missing."""
        while len(self._nodes) < NODES - 1:
            self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=80 << 20))
        self._cluster.wait_for_nodes()


@pytest.fixture(scope="session")
def whole_cluster() -> Iterator[RayCluster]:
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(_CLUSTER)
    head = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = RayCluster(cluster.address, cluster, [])
    made.complete()
    yield made
    with suppress(Exception):  # what a test has taken away
        cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def cluster(whole_cluster: RayCluster) -> RayCluster:
    whole_cluster.complete()
    return whole_cluster


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("lake"), BIG | SMALL, batch_size=8, every=0.0)


@pytest.fixture(scope="session")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it."""
    output = tmp_path_factory.mktemp("whole") / "out"
    done = ended(begin(lake.arguments(output, "--workers", 1)))
    assert done.code == 0, done.err
    return contents(LocalStorage(output))


@dataclass
class RayRun:
    """Runs the command with arithmetic on a cluster, and sees what its actors do.

    Attributes:
        lake: What is scored.
        cluster: On what.
        folder: The test's own.
    """

    lake: Lake
    cluster: RayCluster
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def told(self) -> Path:
        """The batches that were scored."""
        return self.folder / "told"

    def actors(self) -> dict[int, str]:
        """The processes of the actors that were begun → their nodes."""
        path = self.folder / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        return {int(pid): node for pid, node in (line.split() for line in lines)}

    def begin(self, *more: object, **variables: str) -> subprocess.Popen[str]:
        engine = ("--engine", "ray", "--ray-address", self.cluster.address)
        arguments = self.lake.arguments(
            self.output, "--workers", NODES, "--threads", 1, *engine, *more
        )
        return self.command(*arguments, **variables)

    def command(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """A command, with arithmetic in the place of TensorFlow here and in actors."""
        own = {"STARTED": str(self.folder / "started"), "SCORED": str(self.told)}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.ray.arithmetic", *arguments],
            cwd=ROOT,
            env=environment(**{"GROUP_ROWS": str(GROUP_ROWS), **own, **variables}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ended(self, *more: object, **variables: str) -> Finished:
        return ended(self.begin(*more, **variables))


@pytest.fixture
def on_ray(lake: Lake, cluster: RayCluster, tmp_path: Path) -> RayRun:
    return RayRun(lake, cluster, tmp_path)
