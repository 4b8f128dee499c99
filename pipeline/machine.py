"""What this process may use of the machine: cores, memory, a graphics card.

Asks the kernel alone: TensorFlow, which could tell of cards, takes seconds to load. A container's
limits are those of its control group and of all groups above it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.capacity import Machine, limit_left, own_groups, quota_v1, quota_v2, stat_field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def this_machine(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Machine:
    """What this process may use.

    Args:
        root: Where `proc`, `sys` and `dev` are.
        environment: Its variables.
    """
    groups = own_groups(_text(root / "proc/self/cgroup"))
    cores = [float(len(os.sched_getaffinity(0))), *_quotas(root, groups)]
    free = stat_field(_text(root / "proc/meminfo"), "MemAvailable") * 1024
    memory = [*([free] if free else []), *_left(root, groups)]
    return Machine(min(cores), min(memory) if memory else None, _has_card(root, environment))


def _quotas(root: Path, groups: Mapping[str, str]) -> Iterator[float]:
    for folder in _folders(root / "sys/fs/cgroup", groups.get("")):
        quota = quota_v2(_text(folder / "cpu.max"))
        if quota is not None:
            yield quota
    for folder in _folders(root / "sys/fs/cgroup/cpu", groups.get("cpu")):
        period = _text(folder / "cpu.cfs_period_us")
        quota = quota_v1(_text(folder / "cpu.cfs_quota_us"), period)
        if quota is not None:
            yield quota


def _left(root: Path, groups: Mapping[str, str]) -> Iterator[int]:
    for folder in _folders(root / "sys/fs/cgroup", groups.get("")):
        cached = stat_field(_text(folder / "memory.stat"), "inactive_file")
        most, used = _text(folder / "memory.max"), _text(folder / "memory.current")
        left = limit_left(most, used, cached)
        if left is not None:
            yield left
    for folder in _folders(root / "sys/fs/cgroup/memory", groups.get("memory")):
        cached = stat_field(_text(folder / "memory.stat"), "total_inactive_file")
        most = _text(folder / "memory.limit_in_bytes")
        left = limit_left(most, _text(folder / "memory.usage_in_bytes"), cached)
        if left is not None:
            yield left


def _folders(mount: Path, group: str | None) -> Iterator[Path]:
    """A group's folder and those above it. In a container the mount is its own group, whatever
    the group is called outside."""
    if group is not None:
        path = PurePosixPath(group.lstrip("/"))
        for part in (path, *path.parents):
            if ".." not in part.parts:
                yield mount / part


def _has_card(root: Path, environment: Mapping[str, str]) -> bool:
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and chosen.strip() in {"", "-1", "none", "NoDevFiles"}:
        return False
    return (root / "dev/nvidia0").exists() or any((root / "dev").glob("nvidia[0-9]*"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
