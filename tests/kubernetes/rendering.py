"""The manifests as a cluster gets them: rendered by kubectl, held against Kubernetes' schemas."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = ROOT / "jobs" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir() if path.is_dir())
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")

SHARE_COUNT = "SHARDSCORE_SHARD_COUNT"
Document = dict[str, Any]


def kubectl() -> str:
    """The client: of the environment's own packages, or of the machine."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("kubectl", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, "there is no kubectl; the extra dev has it"
    return found


def render(folder: Path) -> list[Document]:
    """What `kubectl apply -k` would send. Needs no cluster, and asks for none."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def _text_of(overlay: str) -> str:
    return yaml.safe_dump_all(render(FOLDER / "overlays" / overlay))


def shipped(overlay: str) -> list[Document]:
    """An overlay as it is shipped; a copy that may be changed."""
    return list(yaml.safe_load_all(_text_of(overlay)))


def patched(
    folder: Path, base: Path, patches: Iterable[Document], kind: str = "Job"
) -> list[Document]:
    """An overlay of a user's: another one, with patches, in a folder of its own."""
    folder.mkdir(parents=True)
    lines = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [os.path.relpath(base, folder)],
                "patches": [
                    {"patch": yaml.safe_dump(patch), "target": {"kind": kind}} for patch in patches
                ],
                "replacements": lines["replacements"] if kind == "Job" else [],
            }
        )
    )
    return render(folder)


def of_kind(documents: Iterable[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def job_of(documents: Iterable[Document]) -> Document:
    """The one Job; of a CronJob, the Job that it would make."""
    (found,) = [d for d in documents if d["kind"] in {"Job", "CronJob"}]
    return found if found["kind"] == "Job" else {"kind": "Job", **found["spec"]["jobTemplate"]}


def pod_of(job: Document) -> Document:
    pod: Document = job["spec"]["template"]["spec"]
    return pod


def container_of(job: Document) -> Document:
    (container,) = pod_of(job)["containers"]
    return dict(container)


def variables_of(job: Document) -> dict[str, Document]:
    """A container's variables, by their names."""
    found = {variable["name"]: variable for variable in container_of(job)["env"]}
    assert len(found) == len(container_of(job)["env"]), "a variable is named twice"
    return found


def faults_of(document: Document, version: str) -> str:
    """What is wrong with a document, by the schema of a version; empty if nothing is."""
    import kubernetes_validate
    from kubernetes_validate import ValidationError

    try:
        held_against = kubernetes_validate.validate(document, version, strict=True)
        assert held_against == version, "without a schema of that version an older one is taken"
    except ValidationError as error:
        return f"{document['kind']}: {error.message} at {'.'.join(map(str, error.path))}"
    return ""
