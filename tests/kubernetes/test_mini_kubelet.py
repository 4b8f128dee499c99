"""The shipped Job, run for real by a mini-kubelet: whatever happens to its pods, it ends in the
bytes of one local run, or in the verdict that the manifest promises."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.discover import discover
from pipeline.layout import FROZEN
from pipeline.proof import document
from pipeline.shares import share
from pipeline.storage import LocalStorage, storage_at
from pipeline.verify import verify
from tests.faults.lake import (
    GROUP_ROWS,
    Lake,
    assert_proven,
    assert_whole,
    begin,
    contents,
    ended,
    left_over,
    make_lake,
    scored_rows,
)
from tests.kubernetes.mini_kubelet import MiniKubelet, Pod, Verdict
from tests.kubernetes.rendering import FOLDER, Document, job_of, of_kind, patched, shipped
from tests.services import SeaweedServer

pytestmark = pytest.mark.long

BATCH, BIG_ROWS = 8, 203
BIG = "big-1.parquet"
SHARDS = {
    **{f"big-{i}": (BIG_ROWS, (3, 90)) for i in range(4)},
    **{f"small-{i:02}": (3 + i % 4, (1,)) for i in range(12)},
}
COMMAND = [sys.executable, "-m", "tests.faults.arithmetic"]
ALL_INDEXES = frozenset(range(8))


@dataclass(frozen=True)
class Volume:
    """The volume of a test, as the overlay's claim names it, and what should become of it."""

    folder: Path
    reference: Mapping[str, bytes]
    owners: Mapping[str, int]

    @property
    def input(self) -> Path:
        return self.folder / "input"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def told(self) -> Path:
        return self.folder / "told"

    def index_of(self, name: str) -> int:
        """Which pod has a shard, of the pods that are shipped."""
        return self.owners[name]

    def damage(self, name: str) -> None:
        """A poisoned shard: its footer is sound, its pages are not."""
        path = self.input / name
        data = bytearray(path.read_bytes())
        data[4:60] = b"\xff" * 56
        path.write_bytes(data)

    def mend(self, name: str, original: Path) -> None:
        shutil.copy2(original / name, self.input / name)

    def predictions(self) -> dict[str, bytes]:
        return {
            name: data
            for name, data in contents(LocalStorage(self.output)).items()
            if name.endswith(".parquet")
        }

    def assert_whole(self) -> None:
        self._without_listings(lambda: assert_whole(self.output, self.reference))

    def assert_finished(self) -> None:
        """All of it, the bytes of one local run, and nothing else but the frozen listing."""
        found = contents(LocalStorage(self.output))
        listings = [name for name in found if name.startswith(f"{FROZEN}/")]
        assert listings
        assert {n: data for n, data in found.items() if n not in listings} == self.reference
        assert left_over(LocalStorage(self.output)) == []
        proof = document(verify(LocalStorage(self.output), inputs=()))
        assert proof["ok"], proof

    def _without_listings(self, check: Callable[[], None]) -> None:
        folder, aside = self.output / FROZEN, self.folder / "aside"
        if folder.exists():
            folder.rename(aside)
        check()
        if aside.exists():
            aside.rename(folder)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("lake"), SHARDS, batch_size=BATCH, every=3600.0)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one undisturbed local run makes."""
    output = tmp_path_factory.mktemp("whole") / "output"
    done = ended(begin(lake.arguments(output)))
    assert done.code == 0, done.err
    return contents(LocalStorage(output))


@pytest.fixture(scope="module")
def owners(lake: Lake) -> dict[str, int]:
    """Shard → the index of the pod that scores it."""
    found = discover([str(lake.shards)], str(lake.folder / "output")).shards
    count = len(ALL_INDEXES)
    return {s.name: index for index in range(count) for s in share(found, index, count)}


@pytest.fixture
def volume(
    lake: Lake, reference: dict[str, bytes], owners: dict[str, int], tmp_path: Path
) -> Volume:
    folder = tmp_path / "volume"
    shutil.copytree(lake.shards, folder / "input")
    shutil.copy2(lake.model, folder / "model.keras")
    return Volume(folder, reference, owners)


Run = Callable[..., Verdict]


@pytest.fixture
def run(volume: Volume, tmp_path: Path) -> Run:
    """Runs a Job on the volume: that of the overlay, unless another one is given."""
    runs: list[int] = []

    def call(
        documents: list[Document] | None = None,
        variables: Mapping[str, str] | Callable[[int, int], Mapping[str, str]] | None = None,
        **how: Any,
    ) -> Verdict:
        runs.append(1)

        def for_pod(index: int, attempt: int) -> dict[str, str]:
            more = variables(index, attempt) if callable(variables) else variables or {}
            return {
                "SHARDSCORE_BATCH_SIZE": str(BATCH),
                "SHARDSCORE_CHECKPOINT_EVERY": "3600",
                "GROUP_ROWS": str(GROUP_ROWS),
                "SCORED": str(volume.told),
                **more,
            }

        how.setdefault("uid", f"0b7c1c0e-3c1d-4b52-9d5f-{len(runs):012}")
        kubelet = MiniKubelet(
            documents or shipped("local-volume"),
            tmp_path / f"pods-{len(runs)}",
            COMMAND,
            {"shardscore-data": volume.folder},
            variables=for_pod,
            **how,
        )
        return kubelet.run()

    return call


def once(
    when: Callable[[MiniKubelet], bool], then: Callable[[MiniKubelet], None]
) -> Callable[[MiniKubelet], None]:
    """A disturbance that comes once, as soon as something is so."""
    done: list[bool] = []

    def watch(kubelet: MiniKubelet) -> None:
        if not done and when(kubelet):
            done.append(True)
            then(kubelet)

    return watch


def in_the_middle(volume: Volume, name: str = BIG) -> Callable[[MiniKubelet], bool]:
    """Whether some batches of a big shard have been scored, and others have not."""

    def so(kubelet: MiniKubelet) -> bool:
        at = kubelet.of(volume.index_of(name))
        return at is not None and len(scored_rows(volume.told, name)) >= 4

    return so


def pod_with(kubelet: MiniKubelet, volume: Volume, name: str = BIG) -> Pod:
    pod = kubelet.of(volume.index_of(name))
    assert pod is not None
    return pod


SLOW = {"PAUSE": "0.05"}


# Undisturbed


def test_a_job_ends_in_the_bytes_of_one_local_run(run: Run, volume: Volume) -> None:
    verdict = run()
    assert (verdict.condition, verdict.completed) == ("Complete", ALL_INDEXES)
    assert len(verdict.pods) == len(ALL_INDEXES)
    volume.assert_finished()


def test_more_pods_than_shards_have_nothing_to_do(
    run: Run, volume: Volume, lake: Lake, tmp_path: Path
) -> None:
    for path in volume.input.glob("[!s]*"):
        path.unlink()
    for path in sorted(volume.input.glob("*"))[3:]:
        path.unlink()
    verdict = run()
    assert (verdict.condition, verdict.completed) == ("Complete", ALL_INDEXES)
    assert len(volume.predictions()) - len(list(volume.output.rglob("quarantine/*"))) == 3
    assert_proven(LocalStorage(volume.output))


def test_a_second_job_has_nothing_to_do(run: Run, volume: Volume) -> None:
    run()
    before = volume.told.read_bytes()
    verdict = run()
    assert verdict.condition == "Complete"
    assert volume.told.read_bytes() == before, "something was scored again"
    volume.assert_finished()


def test_a_folder_that_grows_while_the_job_runs_changes_nothing_for_it(
    run: Run, volume: Volume, lake: Lake
) -> None:
    def grow(_kubelet: MiniKubelet) -> None:
        for i in range(5):
            shutil.copy2(lake.shards / BIG, volume.input / f"a-new-{i}.parquet")

    frozen = volume.output / FROZEN
    verdict = run(watch=once(lambda _: frozen.exists() and any(frozen.iterdir()), grow))
    assert verdict.condition == "Complete"
    volume.assert_finished()
    assert run().condition == "Complete"
    assert len(list(volume.output.glob("a-new-*"))) == 5, "the next Job scores what is new"
    assert_proven(LocalStorage(volume.output))


def test_a_job_on_an_object_store_ends_in_the_same_bytes_with_pods_evicted_and_doubled(
    run: Run, volume: Volume, s3: str, s3_server: SeaweedServer
) -> None:
    store = storage_at(s3)
    for path in (volume.folder / "model.keras", *volume.input.iterdir()):
        store.create(str(path.relative_to(volume.folder)), path.read_bytes())
    documents = shipped("s3")
    (config,) = of_kind(documents, "ConfigMap")
    config["data"]["job.toml"], places = re.subn(
        r"s3://(models|lake|scored)", s3, config["data"]["job.toml"]
    )
    assert places == 3

    def disturb(kubelet: MiniKubelet) -> None:
        for pod in list(kubelet.active):
            kubelet.evict(pod)
        # In an object store nothing keeps it apart from the next pod of its index.
        kubelet.duplicate(volume.index_of(BIG))

    verdict = run(
        documents,
        variables=SLOW,
        secrets={"shardscore-s3": s3_server.environment},
        watch=once(in_the_middle(volume), disturb),
    )
    assert (verdict.condition, verdict.counted) == ("Complete", 0)
    output = storage_at(f"{s3}/output")
    found = {n: d for n, d in contents(output).items() if not n.startswith(f"{FROZEN}/")}
    assert found == volume.reference
    assert_proven(output)


# Pods that end before their work is done


def test_an_evicted_pod_saves_what_it_has_and_is_not_counted(run: Run, volume: Volume) -> None:
    watch = once(in_the_middle(volume), lambda k: k.evict(pod_with(k, volume)))
    verdict = run(variables=SLOW, watch=watch)
    assert (verdict.condition, verdict.counted) == ("Complete", 0)
    assert verdict.codes == [75]
    spans = scored_rows(volume.told, BIG)
    assert [a for _, a in spans[:-1]] == [b for b, _ in spans[1:]], "rows were scored twice"
    volume.assert_finished()


def test_a_pod_that_is_told_to_stop_for_no_reason_goes_on_in_its_next_one(
    run: Run, volume: Volume
) -> None:
    watch = once(in_the_middle(volume), lambda k: k.stop(pod_with(k, volume)))
    verdict = run(variables=SLOW, watch=watch)
    assert (verdict.condition, verdict.counted) == ("Complete", 1)
    assert verdict.codes == [75]
    volume.assert_finished()


def test_a_pod_that_runs_out_of_memory_is_tried_again(run: Run, volume: Volume) -> None:
    watch = once(in_the_middle(volume), lambda k: k.lose(pod_with(k, volume), disrupted=False))
    verdict = run(variables=SLOW, watch=watch)
    assert (verdict.condition, verdict.counted) == ("Complete", 1)
    assert verdict.codes == [128 + signal.SIGKILL]
    volume.assert_finished()


def test_a_lost_node_is_no_fault_of_its_pods(run: Run, volume: Volume) -> None:
    def lose_all(kubelet: MiniKubelet) -> None:
        for pod in kubelet.active:
            kubelet.lose(pod, disrupted=True)

    verdict = run(variables=SLOW, watch=once(in_the_middle(volume), lose_all))
    assert (verdict.condition, verdict.counted) == ("Complete", 0)
    assert set(verdict.codes) == {128 + signal.SIGKILL}
    volume.assert_finished()


def test_a_pod_that_does_not_stop_in_time_is_killed_and_harms_nothing(
    run: Run, volume: Volume
) -> None:
    def variables(index: int, attempt: int) -> dict[str, str]:
        stuck = index == volume.index_of(BIG) and attempt == 0
        return {"PAUSE": "30"} if stuck else {}

    def begun(kubelet: MiniKubelet) -> bool:
        pod = kubelet.of(volume.index_of(BIG))
        return pod is not None and b'"event": "probe"' in pod.log.read_bytes()

    def evict(kubelet: MiniKubelet) -> None:
        kubelet.evict(pod_with(kubelet, volume))

    verdict = run(variables=variables, watch=once(begun, evict), grace=0.5)
    assert (verdict.condition, verdict.counted) == ("Complete", 0)
    assert verdict.codes == [128 + signal.SIGKILL]
    volume.assert_finished()


def test_a_second_pod_of_an_index_gives_way_to_the_first(run: Run, volume: Volume) -> None:
    pods: list[Pod] = []

    def watch(kubelet: MiniKubelet) -> None:
        if not pods and in_the_middle(volume)(kubelet):
            first = pod_with(kubelet, volume)
            first.signal(signal.SIGSTOP)  # so that it is there for as long as the second one
            pods.extend((first, kubelet.duplicate(first.index)))
        elif pods and pods[1] in kubelet.ended:
            pods[0].signal(signal.SIGCONT)

    verdict = run(variables=SLOW, watch=watch)
    assert verdict.condition == "Complete"
    assert [pod.code for pod in pods] == [0, 75]
    assert verdict.codes == [75]
    volume.assert_finished()


@pytest.mark.parametrize(("raised", "code"), [("storage", 74), ("bug", 70)])
def test_what_fails_once_is_tried_again(raised: str, code: int, run: Run, volume: Volume) -> None:
    def variables(_index: int, attempt: int) -> dict[str, str]:
        return {"RAISES": BIG, "RAISED": raised} if attempt == 0 else {}

    verdict = run(variables=variables)
    assert (verdict.condition, verdict.counted, verdict.codes) == ("Complete", 1, [code])
    volume.assert_finished()


# Pods that can never do their work


def test_what_fails_again_and_again_fails_its_index_when_its_tries_are_used_up(
    run: Run, volume: Volume
) -> None:
    verdict = run(variables={"RAISES": BIG, "RAISED": "storage"})
    index = volume.index_of(BIG)
    tries = job_of(shipped("local-volume"))["spec"]["backoffLimitPerIndex"] + 1
    assert (verdict.condition, verdict.reason) == ("Failed", "FailedIndexes")
    assert (verdict.failed, verdict.completed) == ({index}, ALL_INDEXES - {index})
    assert verdict.codes == [74] * tries
    volume.assert_whole()
    assert volume.reference.keys() - contents(LocalStorage(volume.output)).keys() >= {BIG}
    assert run().condition == "Complete"
    volume.assert_finished()


def test_a_poisoned_shard_fails_its_index_at_once_and_all_else_is_scored(
    run: Run, volume: Volume, lake: Lake
) -> None:
    volume.damage(BIG)
    index = volume.index_of(BIG)
    verdict = run()
    assert (verdict.condition, verdict.reason) == ("Failed", "FailedIndexes")
    assert (verdict.failed, verdict.completed) == ({index}, ALL_INDEXES - {index})
    assert verdict.codes == [65], "it was tried again"
    there = volume.predictions()
    assert {n: d for n, d in volume.reference.items() if n in there} == there
    missing = {n for n in volume.reference if n.endswith(".parquet")} - there.keys()
    assert {Path(name).name for name in missing} == {BIG}
    assert not (volume.output / "_SUCCESS").exists()
    (failed,) = [pod for pod in verdict.pods if pod.code]
    assert BIG in failed.message
    volume.mend(BIG, lake.shards)
    assert run().condition == "Complete"
    assert (volume.output / "_SUCCESS").exists()
    assert volume.predictions() == {
        n: d for n, d in volume.reference.items() if n.endswith(".parquet")
    }


def test_too_many_failed_indexes_end_the_job(run: Run, volume: Volume) -> None:
    most = job_of(shipped("local-volume"))["spec"]["maxFailedIndexes"]
    names = sorted(SHARDS)
    of_index = {volume.index_of(f"{name}.parquet"): f"{name}.parquet" for name in names}
    for index in range(most + 1):
        volume.damage(of_index[index])
    verdict = run()
    assert (verdict.condition, verdict.reason) == ("Failed", "MaxFailedIndexesExceeded")
    assert len(verdict.failed) == most + 1
    assert not (volume.output / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("variables", "code", "told"),
    [
        ({"SHARDSCORE_MODEL_SHA256": "0" * 64}, 78, "model"),
        ({"SHARDSCORE_BATCH_SIZE": "many"}, 64, "neither a number nor auto"),
    ],
    ids=["a wrong model", "a wrong option"],
)
def test_what_is_wrong_for_all_ends_the_job_at_once(
    variables: dict[str, str], code: int, told: str, run: Run, volume: Volume
) -> None:
    verdict = run(variables=variables)
    assert (verdict.condition, verdict.reason) == ("Failed", "PodFailurePolicy")
    assert verdict.pods[0].code == code
    assert told in verdict.pods[0].message
    assert len(verdict.pods) <= job_of(shipped("local-volume"))["spec"]["parallelism"]
    assert not verdict.completed
    assert not list(volume.output.glob("*.parquet"))


def test_the_output_of_another_job_is_not_touched(run: Run, volume: Volume) -> None:
    assert run().condition == "Complete"
    before = contents(LocalStorage(volume.output))
    (volume.folder / "model.keras").write_bytes(b"another model")
    verdict = run()
    assert (verdict.condition, verdict.reason) == ("Failed", "PodFailurePolicy")
    assert verdict.pods[0].code == 73
    assert contents(LocalStorage(volume.output)) == before


def test_the_termination_message_is_the_error_as_json(run: Run, volume: Volume) -> None:
    verdict = run(variables={"SHARDSCORE_MODEL_SHA256": "0" * 64})
    last = json.loads(verdict.pods[0].message.splitlines()[-1])
    assert last["level"] == "error"


# Another number of pods


@pytest.mark.parametrize("completions", [3, 11])
def test_a_job_with_other_completions_goes_on_where_the_last_one_was_deleted(
    completions: int, run: Run, volume: Volume, tmp_path: Path
) -> None:
    deleted: list[Pod] = []

    def delete(kubelet: MiniKubelet) -> None:
        deleted.extend(kubelet.active)
        kubelet.suspend()
        kubelet.completed |= ALL_INDEXES  # nobody waits for them any more

    run(variables=SLOW, watch=once(in_the_middle(volume), delete))
    assert deleted
    assert not (volume.output / "_SUCCESS").exists()
    patch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "shardscore"},
        "spec": {"completions": completions, "parallelism": 2, "maxFailedIndexes": 2},
    }
    other = patched(tmp_path / "mine", FOLDER / "overlays" / "local-volume", [patch])
    verdict = run(other)
    assert (verdict.condition, len(verdict.completed)) == ("Complete", completions)
    spans = scored_rows(volume.told, BIG)
    assert [a for _, a in spans[:-1]] == [b for b, _ in spans[1:]], "rows were scored twice"
    volume.assert_finished()


# Queues and nights


def test_a_queued_job_waits_and_may_be_taken_off_again(
    run: Run, volume: Volume, tmp_path: Path
) -> None:
    queue = yaml.safe_load((FOLDER / "overlays" / "kueue" / "job.yaml").read_text())
    queued = patched(tmp_path / "mine", FOLDER / "overlays" / "local-volume", [queue])
    seen: list[str] = []

    def watch(kubelet: MiniKubelet) -> None:
        if not seen:
            assert kubelet.suspended
            assert not kubelet.active
            seen.append("waited")
            kubelet.resume()
        elif seen == ["waited"] and in_the_middle(volume)(kubelet):
            seen.append("taken off")
            kubelet.suspend()
        elif seen[-1] == "taken off" and not kubelet.active:
            seen.append("let in again")
            kubelet.resume()

    verdict = run(queued, variables=SLOW, watch=watch)
    assert seen == ["waited", "taken off", "let in again"]
    assert (verdict.condition, verdict.counted) == ("Complete", 0)
    assert set(verdict.codes) == {75}
    volume.assert_finished()


def test_night_after_night_a_cron_job_scores_what_is_new(
    run: Run, volume: Volume, lake: Lake, tmp_path: Path
) -> None:
    later = sorted(SHARDS)[::3]
    for name in later:
        (volume.input / f"{name}.parquet").unlink()
    template = job_of(shipped("cronjob"))["spec"]
    assert template == job_of(shipped("s3"))["spec"]
    # Its Job is that of s3; here the same on a volume.
    for night in range(2):
        told = volume.told.read_bytes() if volume.told.exists() else b""
        assert run(uid=f"night-{night}").condition == "Complete"
        assert (volume.output / "_SUCCESS").exists()
        scored = volume.told.read_text()[len(told) :]
        if night == 0:
            for name in later:
                volume.mend(f"{name}.parquet", lake.shards)
        else:
            assert {line.split()[0] for line in scored.splitlines()} == {
                f"{name}.parquet" for name in later
            }
    reference = {n: d for n, d in volume.reference.items() if n.endswith(".parquet")}
    assert volume.predictions() == reference
    assert_proven(LocalStorage(volume.output))
    assert pq.ParquetDataset(volume.output).read(["id"]).num_rows > 0
