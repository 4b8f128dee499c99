"""What the image holds, and what it does not."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.image.building import podman
from tests.unit.test_pins import pins_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

VENV = "opt/shardscore"


@pytest.fixture(scope="module")
def config(image: str) -> Any:
    (document,) = json.loads(podman("image", "inspect", image))
    return document["Config"]


def files_of(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each file and folder below one, links as links."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above) / name
            yield path, path.lstat()


def packages_of(root: Path) -> Path:
    (found,) = (root / VENV / "lib").glob("python3.*/site-packages")
    return found


def test_it_runs_shardscore_as_no_ones_user(config: Any) -> None:
    assert config["Entrypoint"] == ["/opt/shardscore/bin/shardscore"]
    assert config["Cmd"] == ["--help"]
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/data"


def test_its_labels_say_what_it_is_and_of_which_commit(config: Any) -> None:
    labels = {
        key.rpartition(".")[2]: value
        for key, value in config["Labels"].items()
        if key.startswith("org.opencontainers.image.")
    }
    assert labels["title"] == "shardscore"
    assert labels["licenses"] == "Apache-2.0"
    known = subprocess.run(["git", "cat-file", "-e", labels["revision"]], cwd=ROOT, check=False)
    assert known.returncode == 0


def test_no_file_makes_who_runs_it_another_user(root: Path) -> None:
    found = [path for path, is_ in files_of(root) if stat.S_ISREG(is_.st_mode)]
    assert len(found) > 10_000, "nothing was looked at"
    assert [path for path in found if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []


def test_no_file_belongs_to_its_user_and_none_of_ours_can_be_written_by_all(root: Path) -> None:
    own, open_to_all = [], []
    for path, is_ in files_of(root):
        if 10001 in {is_.st_uid, is_.st_gid}:
            own.append(path)
        a_place = stat.S_ISREG(is_.st_mode) or stat.S_ISDIR(is_.st_mode)
        if a_place and is_.st_mode & stat.S_IWOTH:
            open_to_all.append(str(path.relative_to(root)))
    assert own == []
    # Those that each Debian has, for all to write to; a read-only root closes them.
    assert set(open_to_all) <= {"tmp", "var/tmp", "run/lock", "var/lock", "dev/shm"}


def test_nothing_is_left_of_building_it(root: Path) -> None:
    programs = {path.name for path in (root / VENV / "bin").iterdir()}
    programs |= {path.name for path in (root / "usr/bin").iterdir()}
    assert not programs & {"pip", "pip3", "gcc", "cc", "make", "ld", "git"}
    assert not (packages_of(root) / "pip").exists()
    assert not (packages_of(root) / "tensorflow/include").exists()
    for path in (
        "build",
        "root/.cache",
        "etc/pip.conf",
        "run/secrets/ca.pem",
        "run/secrets/pip.conf",
    ):
        assert not (root / path).exists(), path
    assert [*(root / "tmp").iterdir()] == [*(root / "data").iterdir()] == []


def test_no_layer_says_where_the_packages_came_from(image: str) -> None:
    told = podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "COPY" in told
    assert "http" not in told


def test_its_packages_are_those_of_the_lock(root: Path) -> None:
    found = {}
    for about in packages_of(root).glob("*.dist-info/METADATA"):
        fields = dict(re.findall(r"(?m)^(Name|Version): (.*)$", about.read_text().split("\n\n")[0]))
        found[re.sub(r"[-_.]+", "-", fields["Name"]).lower()] = fields["Version"]
    assert found.pop("shardscore")
    assert found == {
        name: next(said for said in pin if not said.startswith("sha256:"))
        for name, pin in pins_of("requirements.runtime.lock").items()
    }


def test_of_the_project_it_holds_what_runs(root: Path) -> None:
    there = packages_of(root)
    for package in ("pipeline", "pipeline/storage", "jobs"):
        sources = {path.name for path in (ROOT / package).glob("*.py")}
        assert {path.name for path in (there / package).glob("*.py")} == sources
        for name in sources:
            assert (there / package / name).read_bytes() == (ROOT / package / name).read_bytes()
    assert not (there / "tests").exists()
    assert not (there / "sample_data").exists()


@pytest.mark.parametrize("package", ["pipeline", "jobs", "keras", "typer"])
def test_nothing_is_compiled_anew_at_each_start(package: str, root: Path) -> None:
    """A compiled file holds the second and the size of its source (PEP 552); a root that cannot be
    written could not be given another one."""
    sources = [
        path
        for path in (packages_of(root) / package).rglob("*.py")
        if path.stat().st_size and not path.name.startswith("test_")
    ]
    assert sources
    for source in sources:
        (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-*[0-9].pyc")
        flags, seconds, size = struct.unpack("<III", compiled.read_bytes()[4:16])
        is_ = source.stat()
        assert flags == 0
        assert (seconds, size) == (int(is_.st_mtime), is_.st_size), source


def test_the_layer_of_the_project_itself_is_small(image: str) -> None:
    """What an upgrade that leaves the lock as it is has to pull."""
    layers = json.loads(podman("history", "--no-trunc", "--format", "json", image))
    # The latest first: shardscore's, then that of what it depends on.
    ours, theirs = [layer["size"] for layer in layers if "COPY" in layer["CreatedBy"]]
    assert 1 << 19 < ours < 10 << 20 < theirs
    whole = sum(layer["size"] for layer in layers)
    print(f"MiB of the image: {whole >> 20}; of shardscore's own layer: {ours >> 20}")
