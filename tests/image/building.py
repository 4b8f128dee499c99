"""The image of `make image`, on a base that is made here of Debian's own packages."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT

SUITE = "bookworm"
"""The Debian whose Python is that of the Dockerfile's own base."""

BASE = f"localhost/shardscore-base:{SUITE}"
IMAGE = "localhost/shardscore-test"
PACKAGES = {"podman": "podman", "crun": "crun", "debootstrap": "debootstrap"}
"""Programs that are wanted → the packages that hold them."""

_IN_BASE = "python3,python3-venv,ca-certificates"
_OF_REACHING_AN_INDEX = {"index-url", "trusted-host", "proxy", "timeout", "default-timeout"}


def missing() -> str:
    """What has to be there before an image can be built here, in one line; empty if nothing has."""
    if os.geteuid() != 0:
        return "make image-test has to be called by root"
    packages = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if not packages:
        return ""
    return f"make image-test wants: apt-get install --no-install-recommends {' '.join(packages)}"


def podman(*arguments: object) -> str:
    """What an order to podman prints; one that fails is an error of the test."""
    done = subprocess.run(
        ["podman", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_base() -> None:
    """Makes the base, if an earlier run has not: three minutes."""
    if _there(BASE):
        return
    with tempfile.TemporaryDirectory(prefix="shardscore-base-") as folder:
        root = Path(folder) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={_IN_BASE}", SUITE, root)
        for downloaded in ("var/lib/apt/lists", "var/cache/apt/archives"):
            shutil.rmtree(root / downloaded)
        archive = Path(folder) / "root.tar"
        _run("tar", "--create", "--numeric-owner", "--file", archive, "--directory", root, ".")
        podman("import", archive, BASE)


def make_image(folder: Path) -> None:
    """Builds the image as people do, with what building inside of a container wants.

    Args:
        folder: An empty one, for pip's settings.
    """
    inside_a_container = "--isolation chroot --network=host --ulimit nofile=1024:1024"
    options = f"{inside_a_container} --build-arg BASE={BASE} {_pip_settings(folder)}"
    _run("make", "image", "ENGINE=podman", f"IMAGE={IMAGE}", f"BUILD={options}")


def _pip_settings(folder: Path) -> str:
    """The secrets with which pip in the build reaches the index that pip reaches here."""
    listed = _run(sys.executable, "-m", "pip", "config", "list")
    # "global.index-url='…'" for a line of a file, ":env:.index-url='…'" for a variable.
    lines = [line.split("=", 1) for line in listed.splitlines() if "=" in line]
    found = {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, value in lines}
    kept = {key: value for key, value in found.items() if key in _OF_REACHING_AN_INDEX}
    # What is a folder out here is none in the build.
    more = [word for word in found.get("extra-index-url", "").split() if "file:" not in word]
    if more:
        kept["extra-index-url"] = " ".join(more)
    secrets = [f"--secret id=pip.conf,src={folder / 'pip.conf'}"]
    if "cert" in found:
        kept["cert"] = "/run/secrets/ca.pem"
        secrets.append(f"--secret id=ca.pem,src={found['cert']}")
    settings = "".join(f"{key} = {value}\n" for key, value in kept.items())
    (folder / "pip.conf").write_text(f"[global]\n{settings}")
    return " ".join(secrets)


def _there(image: str) -> bool:
    found = subprocess.run(["podman", "image", "exists", image], check=False)
    return found.returncode == 0


def _run(*words: object) -> str:
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[0]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
