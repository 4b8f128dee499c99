"""Runs a rendered Job for real: its controller and its kubelet, on this machine, without a cluster.

It takes from the manifest what a cluster would: the arguments and variables of the container, the
files of its volumes, how many pods run at a time, what a failure means, how long a stop may take.
A pod is a process group; the image is a command that the test names. Paths of the container are
those of this machine's folders, put in their places wherever the manifest names them.

It leaves out what a verdict does not depend on: nodes, resources, users, pauses before a retry.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT
from tests.kubernetes.policy import DISRUPTION, Ended, action_for, as_kubernetes_tells
from tests.kubernetes.rendering import container_of, job_of, of_kind, pod_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.kubernetes.rendering import Document

_TICK = 0.005
_PATIENCE = 120.0
_MESSAGE_BYTES, _MESSAGE_LINES = 2048, 80


@dataclass
class Pod:
    """A pod, from its start to its end.

    Attributes:
        index: Its completion index.
        attempt: How many pods of that index were before it.
        process: What runs in it.
        log: The file with all that it has said.
        conditions: Those that are true.
        killed_at: When the patience with it ends, once it was told to stop.
        code: What it ended with, once it has.
        action: What came of a failure.
    """

    index: int
    attempt: int
    process: subprocess.Popen[bytes]
    log: Path
    conditions: set[str] = field(default_factory=set)
    killed_at: float | None = None
    code: int | None = None
    action: str = ""
    deleted: bool = False

    @property
    def message(self) -> str:
        """Its termination message: by FallbackToLogsOnError the end of its log."""
        said = self.log.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
        return "\n".join(said.splitlines()[-_MESSAGE_LINES:])

    def signal(self, number: signal.Signals) -> None:
        """Sends its first process a signal, as a kubelet does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


@dataclass(frozen=True)
class Verdict:
    """What a Job's status says at its end.

    Attributes:
        condition: Complete or Failed.
        reason: Why it failed.
        completed: Indexes that are.
        failed: Indexes that are.
        pods: All pods that there were, in the order of their ends.
    """

    condition: str
    reason: str
    completed: frozenset[int]
    failed: frozenset[int]
    pods: tuple[Pod, ...]

    @property
    def counted(self) -> int:
        """Failures that went against a limit."""
        return sum(pod.action == "Count" for pod in self.pods)

    @property
    def codes(self) -> list[int]:
        """What pods ended with that did not do their work."""
        return sorted(pod.code for pod in self.pods if pod.code)


class MiniKubelet:
    """A Job on its way.

    Args:
        documents: The rendered manifest, with one Job, or a CronJob that makes one.
        folder: Where volumes and logs are made.
        command: What the image runs: the manifest's arguments go behind it.
        claims: Persistent volume claim → its folder.
        secrets: Secret → its variables.
        uid: The Job's uid, as the API server would give it.
        variables: What a user would add to the container's variables; for a pod, of its index and
            attempt.
        watch: Is called again and again while the Job runs, to disturb it.
        grace: In the place of the manifest's seconds, where a test cannot wait for them.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        folder: Path,
        command: Sequence[str],
        claims: Mapping[str, Path],
        *,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        uid: str = "0b7c1c0e-3c1d-4b52-9d5f-1f2e3d4c5b6a",
        variables: Callable[[int, int], Mapping[str, str]] = lambda _index, _attempt: {},
        watch: Callable[[MiniKubelet], None] = lambda _kubelet: None,
        grace: float | None = None,
    ) -> None:
        self.job = job_of(documents)
        self.spec: dict[str, Any] = self.job["spec"]
        self.active: list[Pod] = []
        self.ended: list[Pod] = []
        self.completed: set[int] = set()
        self.failed: set[int] = set()
        self.suspended = bool(self.spec.get("suspend", False))
        self._documents, self._folder, self._command = documents, folder, list(command)
        self._claims, self._uid, self._variables, self._watch = claims, uid, variables, watch
        self._grace, self._secrets = grace, secrets or {}
        self._counted: dict[int, int] = {}
        self._reason = ""
        self._refuse_what_a_cluster_would()

    def run(self) -> Verdict:
        """Until the Job has come to its end. Leaves no process behind."""
        deadline = time.monotonic() + _PATIENCE
        try:
            while not self._over():
                assert time.monotonic() < deadline, "the Job does not come to its end"
                self._reap()
                self._kill_the_late()
                if self._reason:
                    self._delete(self.active)
                else:
                    self._fill()
                self._watch(self)
                time.sleep(_TICK)
        finally:
            for pod in self.active:
                pod.process.kill()
                pod.process.wait()
        reason = self._reason or ("FailedIndexes" if self.failed else "")
        return Verdict(
            "Failed" if reason else "Complete",
            reason,
            frozenset(self.completed),
            frozenset(self.failed),
            tuple(self.ended),
        )

    # What happens to pods

    def of(self, index: int) -> Pod | None:
        """The pod of an index that runs, if one does."""
        return next((pod for pod in self.active if pod.index == index), None)

    def evict(self, pod: Pod) -> None:
        """Drains it: it is told to stop, and its end is no fault of its own."""
        pod.conditions.add(DISRUPTION)
        self.stop(pod)

    def stop(self, pod: Pod) -> None:
        """SIGTERM now, SIGKILL when the grace has passed."""
        if pod.killed_at is None:
            grace = pod_of(self.job)["terminationGracePeriodSeconds"]
            pod.killed_at = time.monotonic() + (grace if self._grace is None else self._grace)
            pod.signal(signal.SIGTERM)

    def lose(self, pod: Pod, *, disrupted: bool) -> None:
        """SIGKILL: memory ran out, or (disrupted) its node is gone."""
        if disrupted:
            pod.conditions.add(DISRUPTION)
        pod.signal(signal.SIGKILL)

    def duplicate(self, index: int) -> Pod:
        """A second pod of an index, as after a network that was parted."""
        return self._start(index)

    def suspend(self) -> None:
        """Takes all pods away for now; that is no failure of theirs."""
        self.suspended = True
        self._delete(self.active)

    def resume(self) -> None:
        self.suspended = False

    # The controller

    def _refuse_what_a_cluster_would(self) -> None:
        spec = self.spec
        assert spec["completionMode"] == "Indexed"
        assert pod_of(self.job)["restartPolicy"] == "Never"
        actions = {rule["action"] for rule in spec["podFailurePolicy"]["rules"]}
        assert "FailIndex" not in actions or "backoffLimitPerIndex" in spec

    def _over(self) -> bool:
        if self.active:
            return False
        done = len(self.completed | self.failed) == self.spec["completions"]
        return done or bool(self._reason)

    def _fill(self) -> None:
        if self.suspended:
            return
        busy = {pod.index for pod in self.active}  # podReplacementPolicy: Failed
        for index in range(self.spec["completions"]):
            if len(self.active) >= self.spec["parallelism"]:
                return
            if index not in busy | self.completed | self.failed:
                self._start(index)

    def _reap(self) -> None:
        for pod in [pod for pod in self.active if pod.process.poll() is not None]:
            self.active.remove(pod)
            self.ended.append(pod)
            pod.code = as_kubernetes_tells(pod.process.returncode)
            if pod.code == 0:
                self.completed.add(pod.index)
            elif not pod.deleted and pod.index not in self.completed:
                self._judge(pod)

    def _judge(self, pod: Pod) -> None:
        ended = Ended(pod.index, pod.code or 0, frozenset(pod.conditions))
        pod.action = action_for(self.spec, ended)
        if pod.action == "FailJob":
            self._reason = self._reason or "PodFailurePolicy"
        elif pod.action == "FailIndex":
            self.failed.add(pod.index)
        elif pod.action == "Count":
            self._counted[pod.index] = self._counted.get(pod.index, 0) + 1
            if self._counted[pod.index] > self.spec["backoffLimitPerIndex"]:
                self.failed.add(pod.index)
        if len(self.failed) > self.spec["maxFailedIndexes"]:
            self._reason = self._reason or "MaxFailedIndexesExceeded"

    def _delete(self, pods: Sequence[Pod]) -> None:
        for pod in list(pods):
            pod.deleted = True
            self.stop(pod)

    def _kill_the_late(self) -> None:
        for pod in self.active:
            if pod.killed_at is not None and time.monotonic() > pod.killed_at:
                pod.signal(signal.SIGKILL)

    # The kubelet

    def _start(self, index: int) -> Pod:
        attempt = sum(pod.index == index for pod in (*self.active, *self.ended))
        place = self._folder / f"{index}-{attempt}"
        place.mkdir(parents=True)
        mounts = self._mounts(place)
        container = container_of(self.job)
        log = place / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*self._command, *(_placed(argument, mounts) for argument in container["args"])],
                cwd=ROOT,
                env=self._environment(container, index, attempt, mounts),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        pod = Pod(index, attempt, process, log)
        self.active.append(pod)
        return pod

    def _environment(
        self, container: Document, index: int, attempt: int, mounts: Mapping[str, Path]
    ) -> dict[str, str]:
        """No more than a container has, but for what this machine's Python needs."""
        labels = {
            **self.job["spec"]["template"]["metadata"]["labels"],
            "batch.kubernetes.io/controller-uid": self._uid,
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        found = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        found |= {"PYTHONPATH": str(ROOT), "JOB_COMPLETION_INDEX": str(index)}
        for source in container.get("envFrom", ()):
            found |= self._secrets[source["secretRef"]["name"]]
        for variable in container["env"]:
            if "value" in variable:
                found[variable["name"]] = _placed(variable["value"], mounts)
            else:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
                assert label is not None, path
                found[variable["name"]] = labels[label[1]]
        return found | dict(self._variables(index, attempt))

    def _mounts(self, place: Path) -> dict[str, Path]:
        """The container's folders on this machine."""
        volumes = {volume["name"]: volume for volume in pod_of(self.job)["volumes"]}
        mounts: dict[str, Path] = {}
        maps: dict[str, Path] = {}
        for mount in container_of(self.job)["volumeMounts"]:
            volume, folder = volumes[mount["name"]], place / mount["name"]
            if "persistentVolumeClaim" in volume:
                folder = self._claims[volume["persistentVolumeClaim"]["claimName"]]
            else:
                folder.mkdir()
            if "configMap" in volume:
                maps[volume["configMap"]["name"]] = folder
            mounts[mount["mountPath"]] = folder
        for document in of_kind(self._documents, "ConfigMap"):
            for name, text in document["data"].items():
                (maps[document["metadata"]["name"]] / name).write_text(_placed(text, mounts))
        return mounts


def _placed(text: str, mounts: Mapping[str, Path]) -> str:
    """A text of the container, its folders replaced by those of this machine."""
    folders = "|".join(map(re.escape, mounts))
    return re.sub(rf"(?<![\w./-])({folders})(?![\w.-])", lambda found: str(mounts[found[1]]), text)
