"""The Dockerfile, read: it and the manifests say the same of user, command and writable places."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.kubernetes.rendering import OVERLAYS, container_of, job_of, pod_of, shipped, variables_of

ALL = pytest.mark.parametrize("overlay", OVERLAYS)
DOCKERFILE = ROOT / "jobs" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile in order, each on one line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not re.match(r"\s*#", line)]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (parts[0], parts[1].strip())
        for parts in (line.split(None, 1) for line in joined.splitlines())
        if parts
    ]


def stages() -> list[list[tuple[str, str]]]:
    """The same, by stages; what comes before the first is left out."""
    found: list[list[tuple[str, str]]] = []
    for name, said in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, said))
    return found


def final(name: str) -> str:
    """What the last stage says, once, with an instruction."""
    (said,) = [said for given, said in stages()[-1] if given == name]
    return said


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@ALL
def test_a_pod_runs_as_the_images_user(overlay: str) -> None:
    context = pod_of(job_of(shipped(overlay)))["securityContext"]
    assert final("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["runAsNonRoot"]
    # That user, by its number, is the one that the image has a name for.
    assert f"--uid {context['runAsUser']} " in final("RUN")


@ALL
def test_a_pod_gives_arguments_to_the_images_entry_point(overlay: str) -> None:
    container = container_of(job_of(shipped(overlay)))
    assert "command" not in container
    assert container["args"][0] == "score"
    (script,) = project()["project"]["scripts"]
    (program,) = json.loads(final("ENTRYPOINT"))
    assert PurePosixPath(program).name == script
    copied = [said.split()[-1] for name, said in stages()[-1] if name == "COPY"]
    assert str(PurePosixPath(program).parent.parent) in copied


@ALL
def test_what_the_image_writes_to_is_a_volume_of_the_pods(overlay: str) -> None:
    variables = dict(word.split("=", 1) for word in shlex.split(final("ENV")))
    pod = job_of(shipped(overlay))
    container = container_of(pod)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    empty = {volume["name"] for volume in pod_of(pod)["volumes"] if "emptyDir" in volume}
    writable = {m["mountPath"] for m in container["volumeMounts"] if m["name"] in empty}
    for name in ("HOME", "TMPDIR"):
        assert variables[name] == variables_of(pod)[name]["value"]
        assert variables[name] in writable


@ALL
def test_the_manifests_name_what_make_image_makes(overlay: str) -> None:
    (name,) = re.findall(r"(?m)^IMAGE\s*\?= (\S+)$", (ROOT / "Makefile").read_text())
    assert container_of(job_of(shipped(overlay)))["image"] == name


def test_it_has_the_version_of_the_project_and_a_python_that_the_lock_was_made_for() -> None:
    assert f'image.version="{project()["project"]["version"]}"' in final("LABEL")
    (base,) = [said for name, said in instructions() if name == "ARG" and said.startswith("BASE=")]
    assert f":{project()['tool']['mypy']['python_version']}-slim" in base


def test_what_is_copied_is_all_that_is_installed_and_all_that_the_build_is_given() -> None:
    copied = {
        source for name, said in stages()[0] if name == "COPY" for source in said.split()[:-1]
    }
    packages = project()["tool"]["setuptools"]["packages"]
    assert {package.split(".")[0] for package in packages} <= copied
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    assert any(fnmatch("pipeline/__pycache__", rule) for rule in rules if rule != "*")
