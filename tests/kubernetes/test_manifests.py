"""The manifests, without a cluster: each overlay is what Kubernetes takes, and says what it means.

The schema lets much pass that a cluster would refuse, or that would mean something else than it
looks like; so what must go together is said here.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jobs.exit_codes import ExitCode
from pipeline.job import Job
from pipeline.small import GRACE_SECONDS
from tests.kubernetes.rendering import (
    FOLDER,
    OVERLAYS,
    SHARE_COUNT,
    VERSIONS,
    Document,
    container_of,
    faults_of,
    job_of,
    of_kind,
    patched,
    pod_of,
    render,
    shipped,
    variables_of,
)

TMP = "/tmp"  # noqa: S108 - a container's own
ALL = pytest.mark.parametrize("overlay", OVERLAYS)

# What Kubernetes takes


def test_the_overlays_are_those_that_were_promised() -> None:
    assert OVERLAYS == ["cronjob", "gpu", "kueue", "local-volume", "s3"]


@ALL
@pytest.mark.parametrize("version", VERSIONS)
def test_an_overlay_is_valid(overlay: str, version: str) -> None:
    assert [faults_of(document, version) for document in shipped(overlay)] == [""] * len(
        shipped(overlay)
    )


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each key of a document that Kubernetes names, not its users."""
    free = {"labels", "data", "requests", "limits"}
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in _paths(item, (*path, i))]
    if not isinstance(value, dict) or (path and path[-1] in free):
        return []
    return [
        found
        for key, item in value.items()
        for found in ((*path, key), *_paths(item, (*path, key)))
    ]


@pytest.mark.slow
def test_each_field_that_is_misspelt_is_found() -> None:
    seen: set[tuple[str, ...]] = set()
    for overlay in OVERLAYS:
        for number, document in enumerate(shipped(overlay)):
            for path in _paths(document):
                kind = str(document["kind"])
                named = (kind, *(step for step in path if isinstance(step, str)))
                # Without kind or version it is no document at all.
                if named in seen or path[0] in {"kind", "apiVersion"}:
                    continue
                seen.add(named)
                wrong = shipped(overlay)[number]
                place = wrong
                for step in path[:-1]:
                    place = place[step]
                place[f"{path[-1]}s"] = place.pop(path[-1])
                assert faults_of(wrong, VERSIONS[0]), f"{named} may be misspelt"
    assert len(seen) > 100


@ALL
def test_a_value_of_another_type_is_found(overlay: str) -> None:
    wrong = shipped(overlay)
    container_of(job_of(wrong))["env"][0]["value"] = 8
    assert any(faults_of(document, VERSIONS[0]) for document in wrong)


# What the policy says of our exit codes


def _rules(overlay: str) -> list[Document]:
    rules: list[Document] = job_of(shipped(overlay))["spec"]["podFailurePolicy"]["rules"]
    return rules


def _codes(overlay: str, action: str) -> set[int]:
    rules = [rule for rule in _rules(overlay) if rule["action"] == action]
    return {code for rule in rules for code in rule["onExitCodes"]["values"]}


WRONG_FOR_ALL = {ExitCode.USAGE, ExitCode.OTHER_JOB, ExitCode.CONFIG}
WRONG_FOR_ONE = {ExitCode.DATA, ExitCode.NO_INPUT}
TRY_AGAIN = {ExitCode.BUG, ExitCode.STORAGE, ExitCode.STOPPED, ExitCode.INTERRUPTED}


def test_each_exit_code_has_its_place() -> None:
    assert {ExitCode.OK} | WRONG_FOR_ALL | WRONG_FOR_ONE | TRY_AGAIN == set(ExitCode)


@ALL
def test_what_is_wrong_for_each_pod_fails_the_job(overlay: str) -> None:
    assert _codes(overlay, "FailJob") == WRONG_FOR_ALL


@ALL
def test_what_trying_again_does_not_change_fails_the_index(overlay: str) -> None:
    assert _codes(overlay, "FailIndex") == WRONG_FOR_ONE


@ALL
def test_all_other_codes_are_tried_again_and_counted(overlay: str) -> None:
    named = {
        code
        for rule in _rules(overlay)
        for code in rule.get("onExitCodes", {"values": []})["values"]
    }
    assert not named & (TRY_AGAIN | {ExitCode.OK})
    assert not any(rule["action"] == "Count" for rule in _rules(overlay))


@ALL
def test_a_disruption_is_no_fault_whatever_the_pod_ends_with(overlay: str) -> None:
    first = _rules(overlay)[0]
    assert first["action"] == "Ignore", "a later rule would never be asked"
    assert first["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert [rule["action"] for rule in _rules(overlay)].count("Ignore") == 1


@ALL
def test_rules_on_exit_codes_are_sorted_and_name_the_container(overlay: str) -> None:
    for rule in _rules(overlay)[1:]:
        said = rule["onExitCodes"]
        assert said["operator"] == "In"
        assert said["containerName"] == container_of(job_of(shipped(overlay)))["name"]
        assert said["values"] == sorted(set(said["values"]))
        assert 0 not in said["values"]


# What must go together


@ALL
def test_a_policy_on_failures_needs_pods_that_are_not_restarted_in_place(overlay: str) -> None:
    job = job_of(shipped(overlay))
    assert pod_of(job)["restartPolicy"] == "Never"
    assert job["spec"]["podReplacementPolicy"] == "Failed"


@ALL
def test_failing_an_index_needs_a_limit_for_each_index(overlay: str) -> None:
    spec = job_of(shipped(overlay))["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimitPerIndex"] >= 1
    assert "backoffLimit" not in spec, (
        "it would end the Job before its indexes have had their tries"
    )
    assert 0 < spec["maxFailedIndexes"] <= spec["completions"]


@ALL
def test_completions_cannot_be_changed_under_running_pods(overlay: str) -> None:
    """Kubernetes allows it where parallelism is the same number, but pods have been told how many
    shares there are: those of the others would be nobody's."""
    spec = job_of(shipped(overlay))["spec"]
    assert 0 < spec["parallelism"] < spec["completions"]


@ALL
def test_a_pod_is_told_as_many_shares_as_there_are_completions(overlay: str) -> None:
    job = job_of(shipped(overlay))
    assert variables_of(job)[SHARE_COUNT]["value"] == str(job["spec"]["completions"])
    assert "SHARDSCORE_SHARD_INDEX" not in variables_of(job), "it comes before the pod's own index"
    assert "JOB_COMPLETION_INDEX" not in variables_of(job), "Kubernetes sets it"


@pytest.mark.parametrize("overlay", ["local-volume", "s3", "gpu", "kueue"])
def test_completions_that_a_user_patches_reach_the_pods(overlay: str, tmp_path: Path) -> None:
    patch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "shardscore"},
        "spec": {"completions": 100},
    }
    job = job_of(patched(tmp_path / "mine", FOLDER / "overlays" / overlay, [patch]))
    assert job["spec"]["completions"] == 100
    assert variables_of(job)[SHARE_COUNT]["value"] == "100"


@ALL
def test_all_pods_of_a_job_share_the_plan_that_its_uid_names(overlay: str) -> None:
    source = variables_of(job_of(shipped(overlay)))["SHARDSCORE_PLAN_ID"]["valueFrom"]
    label = "batch.kubernetes.io/controller-uid"
    assert source == {"fieldRef": {"fieldPath": f"metadata.labels['{label}']"}}


@ALL
def test_the_grace_is_longer_than_a_stop_takes(overlay: str) -> None:
    """The batch at hand, which is no longer than the time between two checkpoints or nothing would
    ever be saved, what is worth finishing, and the same again for slow storage."""
    between = Job(model="m", input=("i",), output="o").checkpoint_every
    grace = pod_of(job_of(shipped(overlay)))["terminationGracePeriodSeconds"]
    assert grace >= 2 * (between + GRACE_SECONDS)


@ALL
def test_a_pods_bytes_do_not_depend_on_its_node(overlay: str) -> None:
    assert int(variables_of(job_of(shipped(overlay)))["SHARDSCORE_THREADS"]["value"]) >= 1


@ALL
def test_a_pod_is_given_what_it_counts_with(overlay: str) -> None:
    resources = container_of(job_of(shipped(overlay)))["resources"]
    for name in ("cpu", "memory", "ephemeral-storage"):
        assert resources["requests"][name] == resources["limits"][name]


@ALL
def test_what_a_pod_says_last_is_kept_with_it(overlay: str) -> None:
    job = job_of(shipped(overlay))
    assert container_of(job)["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert variables_of(job)["SHARDSCORE_LOG_FORMAT"]["value"] == "json"
    assert job["spec"]["ttlSecondsAfterFinished"] >= 24 * 3600, "gone before anyone looks"


# Pod Security "restricted", and no more rights than needed


@ALL
def test_a_pod_is_restricted(overlay: str) -> None:
    pod = pod_of(job_of(shipped(overlay)))
    container = container_of(job_of(shipped(overlay)))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= allowed


@ALL
def test_a_pod_has_no_token_and_no_variables_of_services(overlay: str) -> None:
    pod = pod_of(job_of(shipped(overlay)))
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod
    assert pod["enableServiceLinks"] is False, "SHARDSCORE_… may be a service's"


@ALL
def test_what_is_written_beside_the_output_has_a_place(overlay: str) -> None:
    job = job_of(shipped(overlay))
    (mount,) = [m for m in container_of(job)["volumeMounts"] if m["mountPath"] == TMP]
    (volume,) = [v for v in pod_of(job)["volumes"] if v["name"] == mount["name"]]
    assert "sizeLimit" in volume["emptyDir"]
    for name in ("HOME", "TMPDIR"):
        assert variables_of(job)[name]["value"] == TMP
    room = container_of(job)["resources"]["limits"]["ephemeral-storage"]
    assert int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) < int(room.removesuffix("Gi"))


# What refers to what


@ALL
def test_each_volume_is_mounted_and_there(overlay: str) -> None:
    documents = shipped(overlay)
    job = job_of(documents)
    volumes = {volume["name"]: volume for volume in pod_of(job)["volumes"]}
    assert {mount["name"] for mount in container_of(job)["volumeMounts"]} == volumes.keys()
    maps = {document["metadata"]["name"] for document in of_kind(documents, "ConfigMap")}
    assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} == maps
    claims = {
        document["metadata"]["name"] for document in of_kind(documents, "PersistentVolumeClaim")
    }
    wanted = {
        v["persistentVolumeClaim"]["claimName"]
        for v in volumes.values()
        if "persistentVolumeClaim" in v
    }
    assert wanted == claims


@ALL
def test_the_job_file_is_one(overlay: str) -> None:
    documents = shipped(overlay)
    (config,) = of_kind(documents, "ConfigMap")
    job = Job.model_validate(tomllib.loads(config["data"]["job.toml"]))
    where = {m["mountPath"] for m in container_of(job_of(documents))["volumeMounts"]}
    for path in (job.model, *job.input, job.output):
        remote = path.startswith("s3://")
        assert remote or any(path.startswith(f"{folder}/") for folder in where)


@ALL
def test_a_change_of_the_job_file_is_another_config(overlay: str) -> None:
    (config,) = of_kind(shipped(overlay), "ConfigMap")
    assert re.fullmatch(r"shardscore-job-[a-z0-9]{10}", config["metadata"]["name"])


# The overlays


def test_the_secret_of_s3_is_the_users() -> None:
    documents = shipped("s3")
    assert container_of(job_of(documents))["envFrom"] == [{"secretRef": {"name": "shardscore-s3"}}]
    assert not of_kind(documents, "Secret")


def test_the_volume_can_be_written_by_several_nodes() -> None:
    (claim,) = of_kind(shipped("local-volume"), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_pod_with_a_card_asks_for_whole_ones_and_may_go_where_they_are() -> None:
    job = job_of(shipped("gpu"))
    assert container_of(job)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod_of(job)[
        "tolerations"
    ]
    assert variables_of(job)["SHARDSCORE_WORKERS"]["value"] == "1"


def test_the_cron_job_starts_the_very_job() -> None:
    assert job_of(shipped("cronjob"))["spec"] == job_of(shipped("s3"))["spec"]
    assert not of_kind(shipped("cronjob"), "Job")


def test_the_cron_job_never_runs_twice_and_makes_up_for_a_start_that_was_missed() -> None:
    (cron,) = of_kind(shipped("cronjob"), "CronJob")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron["spec"]["startingDeadlineSeconds"] >= 100, "it is looked at every ten seconds"
    assert cron["spec"]["timeZone"]
    assert "TZ" not in cron["spec"]["schedule"]
    assert re.fullmatch(r"(\S+ ){4}\S+", cron["spec"]["schedule"])
    assert len(cron["metadata"]["name"]) <= 52


def test_kueue_decides_when_the_job_begins() -> None:
    (job,) = of_kind(shipped("kueue"), "Job")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert job["spec"]["suspend"] is True


def test_the_base_alone_is_valid() -> None:
    for version in VERSIONS:
        assert not any(faults_of(document, version) for document in render(FOLDER / "base"))
