"""Fixtures that all kinds of tests share: the command, in a process of its own or in this one."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services import SeaweedServer

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "sample_data"


def pytest_sessionfinish() -> None:
    """Has what was measured saved at once, where anything is (`make coverage`).

    A process of xdist's has ten seconds to end in. One that has used TensorFlow may need them all
    for its last collection of garbage, and what is killed saves nothing.
    """
    if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()):
        measured.stop()
        measured.save()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "jobs", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings that would change what shardscore does."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHARDSCORE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def run_command(
    *arguments: object, cwd: Path = ROOT, timeout: float = 240, **extra: str
) -> Finished:
    """Runs the command in a process of its own."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Finished]]:
    """The command in this process, where TensorFlow is loaded once for all tests."""
    from jobs.cli import main

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(*arguments: object) -> Finished:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Finished(int(ended.value.code or 0), out, err)

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def files_below(folder: Path) -> dict[str, bytes]:
    """What an output holds, by name: predictions, dead letters and run.json, without reports."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "reports" not in path.parts and "staging" not in path.parts
    }


@dataclass(frozen=True)
class FlightsRun:
    """The sample flights, scored once by the command that the README names."""

    output: Path
    finished: Finished

    @property
    def report(self) -> Any:
        (path,) = (self.output / "_shardscore" / "reports").glob("*.json")
        return json.loads(path.read_text())


@pytest.fixture(scope="session")
def flights_run(tmp_path_factory: pytest.TempPathFactory) -> FlightsRun:
    output = tmp_path_factory.mktemp("flights") / "out"
    finished = run_command("score", "--config", SAMPLE / "flights.toml", "--output", output)
    assert finished.code == 0, finished.err
    return FlightsRun(output, finished)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A real S3 server. Who stops it starts it again."""
    from tests.services import SeaweedServer

    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3(s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty folder on the server, which this process is told to use."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.url(f"test-{secrets.token_hex(8)}")


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Another S3 server, simulated, as a second opinion."""
    from moto.server import ThreadedMotoServer

    from tests.services import s3_client

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    s3_client(endpoint).create_bucket(Bucket="lake")
    yield endpoint
    server.stop()


@pytest.fixture
def moto_s3(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `s3`, on that one."""
    from tests.services import s3_environment

    for name, value in s3_environment(moto_endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://lake/test-{secrets.token_hex(8)}"
