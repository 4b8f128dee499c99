"""The contestants' environments, one each, below `.bench/`.

    python -m tests.bench.environments [NAME …]

Each holds what its `requirements.txt` pins, and sees the project's own packages behind that, by a
`.pth` file: TensorFlow and Keras are the very files that the project runs on, a gigabyte is there
once and not six times, and where a contestant wants another version of something, its own comes
first. The project itself is not seen: such a file does not lead on to the editable install.

An environment is made anew when its requirements or its Python have changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("BENCH_HOME") or ROOT / ".bench")
"""Where environments, workloads, outputs and results are."""
CONTESTANTS = Path(__file__).resolve().parent / "contestants"
OURS_ALONE = ("pandas_loop", "tf_data")
"""Contestants that need nothing beyond the project's own packages: they run in its environment."""


def names() -> list[str]:
    """The contestants, those that need least first."""
    found = {path.parent.name for path in CONTESTANTS.glob("*/run.py")}
    return [*OURS_ALONE, *sorted(found.difference(OURS_ALONE))]


def python_of(name: str) -> Path:
    """The interpreter that a contestant runs in."""
    return Path(sys.executable) if name in OURS_ALONE else HOME / "env" / name / "bin" / "python"


def missing(name: str) -> str | None:
    """What keeps a contestant from running, in words; None if nothing does."""
    if name not in OURS_ALONE and not _stamp(name).exists():
        return "it has no environment: run make bench-setup"
    if name == "spark":
        return _java_missing()
    return None


def make(name: str) -> None:
    """Makes a contestant's environment, unless it is there and up to date."""
    requirements = CONTESTANTS / name / "requirements.txt"
    wanted = f"{sys.version}\n{sysconfig.get_path('purelib')}\n{requirements.read_text()}"
    if name in OURS_ALONE or (_stamp(name).exists() and _stamp(name).read_text() == wanted):
        return
    folder = HOME / "env" / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "zz_project.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "-qq"]
    # All is pinned, so nothing is left to resolve.
    subprocess.run([*pip, "--no-deps", "--requirement", requirements], check=True)
    _stamp(name).write_text(wanted)


def main() -> None:
    asked = sys.argv[1:] or names()
    if unknown := set(asked).difference(names()):
        raise SystemExit(f"no such contestant: {', '.join(sorted(unknown))}")
    for name in asked:
        make(name)
        sys.stdout.write(f"{name}: {missing(name) or 'ready'}\n")


def _stamp(name: str) -> Path:
    return HOME / "env" / name / ".ready"


def _java_missing() -> str | None:
    """Spark 4 runs on Java 17 or newer, which pip cannot bring."""
    java = shutil.which("java")
    if java is None:
        return (
            "there is no java on the PATH: Spark needs Java 17 or newer (openjdk-17-jre-headless)"
        )
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = told.partition('"')[2].partition('"')[0]  # openjdk version "17.0.15" 2025-04-15
    major = version.split(".")[0]
    if not major.isdigit() or int(major) < 17:
        return f"Spark needs Java 17 or newer; {java} is {version or 'of an unknown version'}"
    return None


if __name__ == "__main__":
    main()
