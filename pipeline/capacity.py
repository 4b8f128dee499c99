"""PURE: how many worker processes a machine and a job are good for, and threads for each.

A worker is a process with a TensorFlow and a model of its own: it costs memory, and some seconds
of CPU to begin. What a container may use is often less than what its machine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PROCESS_BYTES = 900 << 20
"""Resident memory of a process that has TensorFlow loaded and scores a small model."""

MODEL_COPIES = 3
"""A model in memory over its file: weights, their copies while it loads, the compiled step."""

WORTH_BYTES = 32 << 20
"""Input of a small model that is scored within a second or two: less than that is not worth another
process. It is a fork of one that has TensorFlow imported already, and takes a second of CPU to load
the model and to trace it."""

HEAVY_BYTES = 128 << 10
"""File of a model that takes as long for a row as reading and writing it do, and its calls: input
of a model of thirty times that is worth thirty times as much."""

MOST_HEAVY = 64
"""So much at most: of large models it is often tables, of which a row asks for a few lines."""

SHARD_BYTES = 1 << 19
"""Input that is scored while a shard, however small, is opened, checked, named and published."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use.

    Attributes:
        cores: Cores, or what of them a quota leaves; a part of one counts.
        memory: Bytes that are free; None if that cannot be told.
        card: Whether there is a graphics card, which one process uses best.
    """

    cores: float
    memory: int | None
    card: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        shards: Shards to score.
        bytes: Bytes of them.
        model_bytes: Bytes of the model's files.
        shared: Whether input and output can be reached from other processes.
    """

    shards: int
    bytes: int
    model_bytes: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is used.

    Attributes:
        workers: Processes that score; with 1 it is the one that is there.
        threads: Threads in each pool of each of them.
    """

    workers: int
    threads: int


def decided(
    workers: int | Literal["auto"], threads: int | Literal["auto"], machine: Machine, work: Work
) -> Capacity:
    """What is used, given what was asked for.

    A worker without a shard would have nothing to do, so there are never more than shards.
    """
    most = max(1, work.shards) if work.shared else 1
    if workers == "auto":
        workers = automatic_workers(machine, work, 1 if threads == "auto" else threads)
    count = min(workers, most)
    each = max(1, int(machine.cores) // count) if threads == "auto" else threads
    return Capacity(count, each)


def automatic_workers(machine: Machine, work: Work, threads: int = 1) -> int:
    """As many as there are cores, if memory and work suffice for them.

    Args:
        machine: What may be used.
        work: What is to be done.
        threads: Cores that each is to have.
    """
    if machine.card:
        return 1
    heavy = min(MOST_HEAVY, 1 + work.model_bytes / HEAVY_BYTES)
    worth = int((work.bytes * heavy + work.shards * SHARD_BYTES) // WORTH_BYTES)
    bounds = [int(machine.cores) // threads, work.shards, worth]
    if machine.memory is not None:
        bounds.append(machine.memory // (PROCESS_BYTES + MODEL_COPIES * work.model_bytes))
    return max(1, min(bounds))


def quota_v2(cpu_max: str) -> float | None:
    """Cores that a control group may use, from its `cpu.max`; None: as many as there are."""
    quota, _, period = cpu_max.strip().partition(" ")
    if quota == "max" or not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def quota_v1(quota_us: str, period_us: str) -> float | None:
    """The same, from `cpu.cfs_quota_us` and `cpu.cfs_period_us`."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def limit_left(limit: str, used: str, reclaimable: int = 0) -> int | None:
    """Bytes that a control group may still take, of its limit; None if it has none.

    Args:
        limit: Its `memory.max` or `memory.limit_in_bytes`.
        used: Its `memory.current` or `memory.usage_in_bytes`.
        reclaimable: Bytes of `used` that the kernel gives up when they are needed: cached files.
    """
    try:
        most, now = int(limit), int(used)
    except ValueError:  # "max"
        return None
    if most >= 1 << 60:  # version 1 says "no limit" by the largest number of whole pages
        return None
    return max(0, most - max(0, now - reclaimable))


def stat_field(text: str, name: str) -> int:
    """A field of `memory.stat` or `/proc/meminfo`, as it stands there; 0 if it is missing."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].rstrip(":") == name and words[1].isdigit():
            return int(words[1])
    return 0


def own_groups(cgroup: str) -> dict[str, str]:
    """Controller → the path of this process's group, from `/proc/self/cgroup`; "": version 2."""
    groups: dict[str, str] = {}
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            groups.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return groups
