"""Servers that tests start: real ones, with their own folders and ports, stopped at the end."""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import boto3

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, SECRET, REGION = "shardscore", "not-a-secret", "us-east-1"
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


def s3_environment(endpoint: str) -> dict[str, str]:
    """What tells this program and its children to use a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "NO_PROXY": "127.0.0.1",
    }


def s3_client(endpoint: str) -> Any:
    """Another client than ours, to look at a server from aside."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name=REGION,
    )


class SeaweedServer:
    """A real S3 server (SeaweedFS, all of it in one process) and its data.

    Args:
        folder: Where its data lies; it outlives a stop and a kill.
    """

    bucket = "lake"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3']}"
        self.log = folder / "log"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that is to use the server."""
        return s3_environment(self.endpoint)

    def url(self, prefix: str) -> str:
        """The address of a folder on the server."""
        return f"s3://{self.bucket}/{prefix}"

    def start(self) -> None:
        """Starts it, on the ports and with the data it had, and waits until it answers."""
        port = self._ports
        options = {
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "dir": self._folder / "data",
            "master.port": port["master"],
            "master.port.grpc": port["master.grpc"],
            "master.volumeSizeLimitMB": 256,
            "master.telemetry": "false",
            "master.electionTimeout": "500ms",
            "master.heartbeatInterval": "50ms",
            "volume.port": port["volume"],
            "volume.port.grpc": port["volume.grpc"],
            "volume.max": 100,
            "volume.preStopSeconds": 0,
            "filer.port": port["filer"],
            "filer.port.grpc": port["filer.grpc"],
            "filer.localSocket": self._folder / "filer.sock",
            "s3": "true",
            "s3.port": port["s3"],
            "s3.port.grpc": port["s3.grpc"],
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self._folder / "s3.sock",
            "s3.config": self._folder / "s3.json",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
        }
        command = [str(Path(sysconfig.get_path("scripts")) / "weed"), "-logtostderr", "server"]
        command += [f"-{name}={value}" for name, value in options.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, preexec_fn=_die_with_parent
            )
        _until(self._answers, "the S3 server did not start", self.log)

    def stop(self) -> None:
        """Asks it to end, and waits a little: left alone it waits 15 seconds for itself."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        """Whether an object can be put and read; makes the bucket."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-4000:]
        client = s3_client(self.endpoint)
        try:
            if self.bucket not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key="ready", Body=b"x" * 100_000)
            client.get_object(Bucket=self.bucket, Key="ready")["Body"].read()
            client.delete_object(Bucket=self.bucket, Key="ready")
        # Before it is up it refuses, resets, or answers with any error.
        except Exception:
            return False
        return True


def _until(happens: Callable[[], bool], otherwise: str, log: Path) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end, f"{otherwise}: {log.read_text()[-4000:]}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that outgoing connections are given."""
    found: dict[int, None] = {}
    while len(found) < count:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            found[port] = None
    return list(found)


def _die_with_parent() -> None:
    """A killed test run leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class PushgatewayServer:
    """A real Prometheus Pushgateway, which keeps what it is told in memory.

    Args:
        folder: Where its log goes.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (port,) = _free_ports(1)
        self._listens = f"127.0.0.1:{port}"
        self.address = f"http://{self._listens}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        program = shutil.which("prometheus-pushgateway")
        assert program, "install Debian's package prometheus-pushgateway, as .ci/run does"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, f"--web.listen-address={self._listens}"],
                stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )  # fmt: skip
        _until(self._answers, "the Pushgateway did not start", self._log)

    def kill(self) -> None:
        """Ends it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def group(self, **labels: str) -> dict[str, list[tuple[dict[str, str], str]]]:
        """What it holds of one job or share: metric → samples, their own labels and values.

        Args:
            labels: The group's, besides `job="shardscore"`.
        """
        wanted = {"job": "shardscore", **labels}
        found = [
            group
            for group in json.loads(self._get("/api/v1/metrics"))["data"]
            if group["labels"] == wanted
        ]
        (group,) = found
        apart = {*wanted, "instance"}
        return {
            name: [
                ({k: v for k, v in one["labels"].items() if k not in apart}, one["value"])
                for one in metric["metrics"]
            ]
            for name, metric in group.items()
            if isinstance(metric, dict) and "metrics" in metric
        }

    def exposed(self, prefix: str) -> str:
        """What Prometheus would read of the metrics whose names begin so."""
        lines = self._get("/metrics").splitlines()
        kept = [
            ln
            for ln in lines
            if ln.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(prefix)
        ]
        return "".join(f"{line}\n" for line in kept)

    def _get(self, path: str) -> str:
        opener = build_opener(ProxyHandler({}))
        with opener.open(self.address + path, timeout=10) as answer:
            return str(answer.read().decode())

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-4000:]
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True
