"""How many workers: what the machine, the memory and the work are good for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capacity import (
    PROCESS_BYTES,
    WORTH_BYTES,
    Capacity,
    Machine,
    Work,
    decided,
    limit_left,
    own_groups,
    quota_v1,
    quota_v2,
)
from pipeline.machine import this_machine

GB = 1 << 30
MACHINE = Machine(cores=8.0, memory=64 * GB, card=False)
WORK = Work(shards=100, bytes=100 * GB, model_bytes=1 << 10, shared=True)


@pytest.mark.parametrize(
    ("machine", "work", "wanted"),
    [
        ({}, {}, Capacity(8, 1)),
        ({"cores": 2.0}, {}, Capacity(2, 1)),
        ({"cores": 1.5}, {}, Capacity(1, 1)),
        ({"cores": 0.25}, {}, Capacity(1, 1)),
        ({}, {"shards": 3}, Capacity(3, 2)),
        ({}, {"shards": 1}, Capacity(1, 8)),
        ({}, {"shards": 0, "bytes": 0}, Capacity(1, 8)),
        ({}, {"shards": 10, "bytes": WORTH_BYTES}, Capacity(1, 8)),
        ({}, {"shards": 10, "bytes": 2 * WORTH_BYTES}, Capacity(2, 4)),
        ({}, {"shards": 10_000, "bytes": 150 << 20}, Capacity(8, 1)),  # each is opened and named
        # A row of a heavy model takes longer; what is large may be tables.
        ({}, {"shards": 10, "bytes": 3 << 20, "model_bytes": 4 << 20}, Capacity(3, 2)),
        ({}, {"shards": 10, "bytes": 1 << 20, "model_bytes": GB}, Capacity(2, 4)),
        ({"memory": 2 * GB}, {}, Capacity(2, 4)),
        ({"memory": 1}, {}, Capacity(1, 8)),
        ({"memory": 8 * GB}, {"model_bytes": GB}, Capacity(2, 4)),
        ({"memory": None}, {}, Capacity(8, 1)),
        ({"card": True}, {}, Capacity(1, 8)),
        ({}, {"shared": False}, Capacity(1, 8)),
    ],
)
def test_automatic_workers_follow_from_cores_memory_and_work(
    machine: dict[str, Any], work: dict[str, Any], wanted: Capacity
) -> None:
    found = decided("auto", "auto", replace(MACHINE, **machine), replace(WORK, **work))
    assert found == wanted


def test_what_is_asked_for_is_used() -> None:
    assert decided(3, "auto", MACHINE, WORK) == Capacity(3, 2)
    assert decided(3, 5, MACHINE, WORK) == Capacity(3, 5)
    assert decided(16, "auto", replace(MACHINE, memory=1, card=True), WORK) == Capacity(16, 1)


def test_there_are_no_more_workers_than_shards() -> None:
    assert decided(16, "auto", MACHINE, replace(WORK, shards=2)) == Capacity(2, 4)


def test_workers_leave_each_other_the_threads_that_are_asked_for() -> None:
    assert decided("auto", 4, MACHINE, WORK) == Capacity(2, 4)
    assert decided("auto", 64, MACHINE, WORK) == Capacity(1, 64)


def test_a_storage_that_other_processes_cannot_reach_is_scored_from_by_this_one() -> None:
    assert decided(4, "auto", MACHINE, replace(WORK, shared=False)) == Capacity(1, 8)


@given(
    cores=st.floats(0.01, 512),
    memory=st.none() | st.integers(0, 1 << 50),
    shards=st.integers(0, 10**6),
    size=st.integers(0, 1 << 50),
    model=st.integers(0, 1 << 40),
)
def test_workers_times_threads_stay_within_the_cores(
    cores: float, memory: int | None, shards: int, size: int, model: int
) -> None:
    machine, work = Machine(cores, memory, card=False), Work(shards, size, model, shared=True)
    found = decided("auto", "auto", machine, work)
    assert found.workers >= 1
    assert found.threads >= 1
    assert found.workers * found.threads <= max(1, cores)
    if memory is not None and found.workers > 1:
        assert found.workers * PROCESS_BYTES <= memory


# What a container may use


def test_the_quota_of_a_control_group_is_read() -> None:
    assert quota_v2("200000 100000\n") == 2.0
    assert quota_v2("50000 100000") == 0.5
    assert quota_v2("max 100000\n") is None
    assert quota_v2("") is None
    assert quota_v1("150000\n", "100000\n") == 1.5
    assert quota_v1("-1\n", "100000\n") is None
    assert quota_v1("", "") is None


def test_cached_files_count_as_free_in_a_control_group() -> None:
    assert limit_left("1000\n", "900\n") == 100
    assert limit_left("1000", "900", 500) == 600
    assert limit_left("1000", "2000") == 0
    assert limit_left("max", "900") is None
    assert limit_left("", "") is None
    assert limit_left("9223372036854771712", "900") is None


def test_a_process_knows_its_groups() -> None:
    assert own_groups("0::/kube/pod\n") == {"": "/kube/pod"}
    assert own_groups("4:memory:/a\n2:cpu,cpuacct:/b:c\n") == {
        "memory": "/a",
        "cpu": "/b:c",
        "cpuacct": "/b:c",
    }
    assert own_groups("") == {}


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    return 64


def test_a_machine_without_limits_has_all_its_cores_and_what_is_free(
    cores: int, tmp_path: Path
) -> None:
    assert this_machine(put(tmp_path, {}), {}) == Machine(64.0, 4000 * 1024, card=False)


def test_a_container_has_what_its_group_leaves_it(cores: int, tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/memory.max": "1000000\n",
            "sys/fs/cgroup/memory.current": "700000\n",
            "sys/fs/cgroup/memory.stat": "anon 400000\ninactive_file 300000\n",
        },
    )
    assert this_machine(root, {}) == Machine(2.0, 600_000, card=False)


def test_the_groups_above_bind_too(cores: int, tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/unit\n",
            "sys/fs/cgroup/slice/unit/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/slice/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/slice/memory.max": "500\n",
            "sys/fs/cgroup/slice/memory.current": "100\n",
        },
    )
    assert this_machine(root, {}) == Machine(4.0, 400, card=False)


def test_the_first_version_of_control_groups_binds_likewise(cores: int, tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/pod\n2:cpu,cpuacct:/elsewhere\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "900\n",
            "sys/fs/cgroup/memory/pod/memory.usage_in_bytes": "800\n",
            "sys/fs/cgroup/memory/pod/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        },
    )
    assert this_machine(root, {}) == Machine(3.0, 300, card=False)


def test_a_graphics_card_is_seen_unless_it_is_hidden(cores: int, tmp_path: Path) -> None:
    root = put(tmp_path, {"dev/nvidia1": ""})
    assert this_machine(root, {}).card
    assert this_machine(root, {"CUDA_VISIBLE_DEVICES": "1"}).card
    assert not this_machine(root, {"CUDA_VISIBLE_DEVICES": ""}).card
    assert not this_machine(root, {"CUDA_VISIBLE_DEVICES": "-1"}).card
    assert not this_machine(put(tmp_path / "b", {"dev/nvidiactl": ""}), {}).card


def test_a_machine_that_tells_nothing_has_its_cores(cores: int, tmp_path: Path) -> None:
    assert this_machine(tmp_path, {}) == Machine(64.0, None, card=False)
