"""Containers of the image, as strict as the Kubernetes manifests have them.

No network, no capabilities, a root file system that cannot be written, a small /tmp. Where an
engine has no control groups that it understands, as in a container, it is run in a mount namespace
that shows it none.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from tests.conftest import SAMPLE, Finished
from tests.image.building import IMAGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UID = 10001
TMP = "/tmp"  # noqa: S108 - a container's own
STRICT = (
    *("--network=none", "--read-only", "--read-only-tmpfs=false"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
)
ROOM = ("--tmpfs", f"{TMP}:size=256m,mode=1777")
"""What stands for the manifests' emptyDir."""

_NO_CONTROL_GROUPS = (
    *("unshare", "--mount", "sh", "-ec"),
    'umount -R /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup; exec "$@"',
    "sh",
)
_PODMAN = ("podman", "--runtime", "crun", "run", "--rm")
_WAYS = (
    _PODMAN,
    (
        *(*_NO_CONTROL_GROUPS, *_PODMAN, "--cgroups=disabled"),
        *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"),
    ),
)


@cache
def _way() -> tuple[str, ...]:
    """The first way to run a container that works on this machine."""
    said = []
    for way in _WAYS:
        tried = [*way, *STRICT, *ROOM, "--entrypoint", "true", IMAGE]
        done = subprocess.run(tried, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode == 0:
            return way
        said.append(done.stderr.strip())
    raise AssertionError(f"no container runs here: {'; '.join(said)}")


def start(
    arguments: Sequence[object],
    *,
    mounts: Sequence[str] = (),
    options: Sequence[str] = ROOM,
    image: str = IMAGE,
) -> Container:
    """Starts a container.

    Args:
        arguments: Of its entry point.
        mounts: Volumes, as podman names them. The sample data are at /data/sample.
        options: Further ones of `podman run`.
        image: Of which.
    """
    name = f"shardscore-test-{secrets.token_hex(6)}"
    volumes = [f"--volume={mount}" for mount in (f"{SAMPLE}:/data/sample:ro", *mounts)]
    process = subprocess.Popen(
        [*_way(), *STRICT, f"--name={name}", *volumes, *options, image, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Container(name, process)


def run(*arguments: object, mounts: Sequence[str] = (), options: Sequence[str] = ROOM) -> Finished:
    """Runs a container to its end."""
    return start(arguments, mounts=mounts, options=options).ended()


def shell(script: str, *, mounts: Sequence[str] = (), options: Sequence[str] = ROOM) -> Finished:
    """Runs a script where the entry point would run."""
    told = [*options, "--entrypoint", "sh"]
    return start(["-c", script], mounts=mounts, options=told).ended()


@dataclass
class Container:
    """One that runs."""

    name: str
    process: subprocess.Popen[str]
    _pid: int | None = field(default=None, init=False)

    def ended(self, seconds: float = 240) -> Finished:
        out, err = self.process.communicate(timeout=seconds)
        return Finished(self.process.returncode, out, err)

    @property
    def first(self) -> int:
        """The number that its process 1 has out here, as soon as it has one."""
        deadline = time.monotonic() + 60
        while self._pid is None:
            told = subprocess.run(
                ["podman", "inspect", "--format", "{{.State.Pid}}", self.name],
                capture_output=True,
                text=True,
                check=False,
            )
            self._pid = int(told.stdout or 0) or None
            assert time.monotonic() < deadline, f"it does not begin: {told.stderr}"
        return self._pid

    def signal(self, signum: int) -> None:
        """Sends a signal to process 1, as an engine does that is to stop a container."""
        os.kill(self.first, signum)


def writable(folder: Path, uid: int = UID) -> Path:
    """A folder that the user of the image may write to."""
    folder.mkdir(parents=True)
    os.chown(folder, uid, uid)
    return folder
