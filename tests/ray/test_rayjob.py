"""The RayJob, without KubeRay: its fields are those of the CRD, its pods are what Kubernetes takes,
and its entrypoint is a command that scores."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import ROOT, Finished
from tests.faults.lake import assert_finished, ended
from tests.kubernetes.rendering import VERSIONS, Document, faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.ray.conftest import RayRun

PATH = ROOT / "jobs/ray/rayjob.yaml"
TMP = "/tmp"  # noqa: S108 - a container's own
POD = "(a pod template)"
ANY = "(keys of the user's)"

# By KubeRay's API reference, ray.io/v1: what may stand where. Of its fields those that a scoring
# job could use; what is missing here is misspelt, or wants a thought.
CLUSTER: Document = {
    "rayVersion": str,
    "enableInTreeAutoscaling": bool,
    "suspend": bool,
    "autoscalerOptions": {
        "resources": ANY,
        "image": str,
        "imagePullPolicy": str,
        "securityContext": ANY,
        "idleTimeoutSeconds": int,
        "upscalingMode": str,
        "version": str,
        "env": ANY,
        "envFrom": ANY,
        "volumeMounts": ANY,
    },
    "headGroupSpec": {"rayStartParams": ANY, "template": POD, "serviceType": str},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "idleTimeoutSeconds": int,
            "rayStartParams": ANY,
            "template": POD,
        }
    ],
}
FIELDS: Document = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": ANY, "annotations": ANY},
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "suspend": bool,
        "runtimeEnvYAML": str,
        "submitterConfig": {"backoffLimit": int},
        "submitterPodTemplate": POD,
        "rayClusterSpec": CLUSTER,
    },
}


def documents() -> tuple[Document, Document]:
    """The ConfigMap and the RayJob; copies that may be changed."""
    job_file, job = yaml.safe_load_all(PATH.read_text())
    return job_file, job


def faults(
    value: Any, fields: Any, path: str = "", versions: Sequence[str] = VERSIONS[:1]
) -> Iterator[str]:
    """Where a document is not what the fields say, nor its pods what Kubernetes' versions take."""
    if fields == ANY:
        return
    if fields == POD:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **value}
        for version in versions:
            if found := faults_of(pod, version):
                yield f"{path}: {found}"
    elif isinstance(fields, dict):
        for key in value:
            if key in fields:
                yield from faults(value[key], fields[key], f"{path}.{key}", versions)
            else:
                yield f"{path}: there is no {key}"
    elif isinstance(fields, list):
        for item in value:
            yield from faults(item, fields[0], path, versions)
    elif type(value) is not fields:
        yield f"{path}: {value!r} is no {fields.__name__}"


def places(value: Any, fields: Any) -> Iterator[tuple[Document, str]]:
    """Each key that KubeRay names, with the mapping that it is in."""
    if isinstance(fields, dict):
        for key in list(value):
            yield value, key
            yield from places(value[key], fields[key])
    elif isinstance(fields, list):
        for item in value:
            yield from places(item, fields[0])


def pods(job: Document) -> dict[str, Document]:
    """The pods that there are, by name."""
    cluster = job["spec"]["rayClusterSpec"]
    templates = {
        "submitter": job["spec"]["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }
    return {name: template["spec"] for name, template in templates.items()}


def test_each_field_is_one_of_kuberays_and_each_pod_is_valid() -> None:
    job_file, job = documents()
    assert list(faults(job, FIELDS, versions=VERSIONS)) == []
    assert [faults_of(job_file, version) for version in VERSIONS] == [""] * len(VERSIONS)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")


def test_each_field_that_is_misspelt_is_found() -> None:
    count = len(list(places(documents()[1], FIELDS)))
    assert count > 25
    for number in range(count):
        _, job = documents()
        mapping, key = list(places(job, FIELDS))[number]
        mapping[f"{key}s"] = mapping.pop(key)
        assert list(faults(job, FIELDS)), f"{key} may be misspelt"


def test_a_misspelt_field_of_a_pod_is_found() -> None:
    _, job = documents()
    container = pods(job)["scorers"]["containers"][0]
    container["imagePullpolicy"] = container.pop("imagePullPolicy")
    assert list(faults(job, FIELDS))


@pytest.mark.parametrize("name", ["submitter", "head", "scorers"])
def test_a_pod_meets_the_restricted_standard(name: str) -> None:
    pod = pods(documents()[1])[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert TMP in mounts, "nothing else can be written"
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert {"configMap", "emptyDir"} >= {
        kind for volume in pod["volumes"] for kind in volume if kind != "name"
    }


def test_the_sidecar_of_the_autoscaler_is_as_restricted() -> None:
    cluster = documents()[1]["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert cluster["autoscalerOptions"]["securityContext"] == head["securityContext"]


def test_only_the_head_has_a_token_for_its_autoscaler() -> None:
    found = pods(documents()[1])
    tokens = {name for name, pod in found.items() if pod.get("automountServiceAccountToken", True)}
    assert tokens == {"head"}


def test_actors_fill_the_largest_cluster_and_the_head_has_none() -> None:
    spec = documents()[1]["spec"]
    words = shlex.split(spec["entrypoint"])
    cluster = spec["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    threads = int(words[words.index("--threads") + 1])
    wanted = int(words[words.index("--workers") + 1])
    assert wanted * threads == group["maxReplicas"] * cpus
    assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_object_store_fits_into_shared_memory() -> None:
    cluster = documents()[1]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (shm,) = (v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm")
        size = int(shm["emptyDir"]["sizeLimit"].removesuffix("Mi")) << 20
        assert int(group["rayStartParams"]["object-store-memory"]) <= size


def test_one_version_of_ray_is_named_and_it_is_the_locked_one() -> None:
    (locked,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert documents()[1]["spec"]["rayClusterSpec"]["rayVersion"] == locked
    readme = (ROOT / "jobs/ray/README.md").read_text()
    assert re.findall(r"ray\[default\]==([\d.]+)", readme) == [locked]


def test_the_entrypoint_scores(on_ray: RayRun, reference: dict[str, bytes]) -> None:
    job_file, job = documents()
    config = on_ray.folder / "job.toml"
    placed = {
        "s3://models/model.keras": on_ray.lake.model,
        "s3://lake/input": on_ray.lake.shards,
        "s3://scored/output": on_ray.output,
    }
    text = job_file["data"]["job.toml"]
    for address, path in placed.items():
        assert address in text
        text = text.replace(address, str(path))
    config.write_text(text)
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] == "shardscore"
    words[words.index("--config") + 1] = str(config)
    size = ("--batch-size", str(on_ray.lake.batch_size))
    # Ray tells the entrypoint of a job where its cluster is.
    run = on_ray.command(*words[1:], *size, RAY_ADDRESS=on_ray.cluster.address)
    done: Finished = ended(run)
    assert done.code == 0, done.err
    assert_finished(on_ray.output, reference)
