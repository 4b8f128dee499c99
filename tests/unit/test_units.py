"""The systemd units that are shipped: what they make of each exit code, and what they allow. And
what systemd and cron themselves say of what is shipped, where they are installed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.exit_codes import ExitCode
from pipeline.job import Job
from tests.conftest import ROOT

CRON = ROOT / "jobs/cron"
RETRIED = {ExitCode.STORAGE, ExitCode.STOPPED}
PROGRAM = "/opt/shardscore/.venv/bin/shardscore"
Unit = dict[str, dict[str, list[str]]]


def read(*files: str) -> Unit:
    """A unit and its drop-ins, by systemd's rules: what is said again is added; an empty value
    takes away what was said before.
    """
    unit: Unit = {}
    for file in files:
        section = ""
        for line in (CRON / file).read_text().splitlines():
            if not line or line[0] in "#;":
                continue
            if line.startswith("["):
                section = line.strip("[]")
                unit.setdefault(section, {})
                continue
            name, _, value = line.partition("=")
            assert section, line
            unit[section][name] = [*unit[section].get(name, []), value] if value else []
    return unit


@pytest.fixture
def service() -> dict[str, list[str]]:
    return read("shardscore.service")["Service"]


def codes(service: dict[str, list[str]], name: str) -> set[int]:
    return {int(code) for value in service.get(name, []) for code in value.split()}


def is_started_again(service: dict[str, list[str]], code: int) -> bool:
    """What systemd.service(5) says of an end with a code under `Restart=on-failure`."""
    assert service["Restart"] == ["on-failure"]
    assert "RestartForceExitStatus" not in service, "older systemds refuse it in Type=oneshot"
    succeeded = code == 0 or code in codes(service, "SuccessExitStatus")
    return not succeeded and code not in codes(service, "RestartPreventExitStatus")


@pytest.mark.parametrize("code", ExitCode)
def test_what_trying_again_can_mend_is_tried_again_and_nothing_else(
    code: ExitCode, service: dict[str, list[str]]
) -> None:
    assert is_started_again(service, code) == (code in RETRIED)


def test_no_end_with_work_left_counts_as_a_success(service: dict[str, list[str]]) -> None:
    # Type=oneshot alone has no signal that counts as one.
    assert service["Type"] == ["oneshot"]
    assert codes(service, "SuccessExitStatus") <= {0}
    assert not any(value.startswith("-") for value in service["ExecStart"])


def test_a_killed_run_is_started_again_but_not_without_end(service: dict[str, list[str]]) -> None:
    assert service["Restart"] == ["on-failure"]  # a signal is one
    unit = read("shardscore.service")["Unit"]
    (burst,), (interval,) = unit["StartLimitBurst"], unit["StartLimitIntervalSec"]
    # As many starts as the limit allows take place within its interval, or it limits nothing.
    assert int(burst) * seconds(service["RestartSec"][0]) < seconds(interval)


def seconds(span: str) -> int:
    return int(span.rstrip("minh")) * {"h": 3600, "min": 60}[span.lstrip("0123456789")]


def test_a_stop_reaches_the_run_and_leaves_it_time_to_save(service: dict[str, list[str]]) -> None:
    assert service["KillSignal"] == ["SIGTERM"]
    # Workers ignore signals: they hear of a stop by their pipes, and must not be killed before.
    assert service["KillMode"] == ["mixed"]
    every = Job.model_fields["checkpoint_every"].default
    assert seconds(service["TimeoutStopSec"][0]) >= 2 * every
    assert service["TimeoutStartSec"] == ["infinity"]


def test_only_the_output_can_be_written(service: dict[str, list[str]]) -> None:
    assert service["ReadWritePaths"] == ["/lake/scores"]
    for name, value in {
        "ProtectSystem": "strict",
        "ProtectHome": "read-only",
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
    }.items():
        assert service[name] == [value]
    assert service["User"] != ["root"]
    assert "MemoryDenyWriteExecute" not in service, "TensorFlow makes code while it runs"


def test_what_is_started_is_what_the_crontabs_start(service: dict[str, list[str]]) -> None:
    (command,) = service["ExecStart"]
    nightly = (CRON / "nightly.crontab").read_text().replace("$JOB", "/etc/shardscore/job.toml")
    assert shlex.split(command)[0] == PROGRAM
    assert shlex.join(shlex.split(command)[1:]) in nightly.replace('"', "")


def test_the_drop_in_says_the_day_anew_at_each_start() -> None:
    (command,) = read("shardscore.service", "dated.conf")["Service"]["ExecStart"]
    shell, flag, script = shlex.split(command)
    assert (shell, flag) == ("/bin/sh", "-c")
    assert script.startswith(f"exec {PROGRAM} score "), "else signals would end the shell alone"
    run = script.replace("$$", "$").replace(f"exec {PROGRAM}", "echo")
    told, today = subprocess.run(
        ["/bin/sh", "-c", f"{run}; date -I"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    words = told.split()
    assert words[words.index("--output") + 1] == f"/lake/scores/{today}"


def test_a_reboot_and_a_missed_night_are_made_up_for() -> None:
    timer = read("shardscore.timer")
    assert timer["Timer"]["Persistent"] == ["true"]
    assert timer["Timer"]["OnBootSec"]
    assert timer["Timer"]["RandomizedDelaySec"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("drop_ins", [(), ("dated.conf",)], ids=["growing", "dated"])
def test_systemd_finds_nothing_wrong_with_them(drop_ins: tuple[str, ...], tmp_path: Path) -> None:
    program = tmp_path / "shardscore"
    program.touch(mode=0o755)
    for name in ("shardscore.service", "shardscore.timer"):
        text = (CRON / name).read_text()
        (tmp_path / name).write_text(text.replace(PROGRAM, str(program)))
    extra = tmp_path / "shardscore.service.d"
    extra.mkdir()
    for name in drop_ins:
        text = (CRON / name).read_text()
        (extra / name).write_text(text.replace(PROGRAM, str(program)))
    assert verified(tmp_path) == ""

    service = tmp_path / "shardscore.service"
    service.write_text(service.read_text().replace("RestartSec=", "RestartSecs="))
    assert "RestartSecs" in verified(tmp_path), "it does not look"


def verified(folder: Path) -> str:
    units = [str(folder / name) for name in ("shardscore.service", "shardscore.timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr + (f"ended with {done.returncode}" if done.returncode else "")


@pytest.mark.skipif(shutil.which("crontab") is None, reason="cron is not installed")
@pytest.mark.parametrize("name", ["nightly", "dated"])
def test_cron_finds_nothing_wrong_with_the_crontabs(name: str, tmp_path: Path) -> None:
    shipped = CRON / f"{name}.crontab"
    assert checked(shipped) == 0
    wrong = tmp_path / "wrong"
    wrong.write_text(shipped.read_text().replace("17 2 * * *", "17 25 * * *"))
    assert checked(wrong) != 0, "it does not look"


def checked(crontab: Path) -> int:
    """What Debian's crontab ends with when it is to check alone."""
    return subprocess.run(
        ["crontab", "-n", str(crontab)], capture_output=True, check=False
    ).returncode


def test_the_guide_for_operators_names_each_file_and_each_exit_code() -> None:
    guide = (ROOT / "jobs/README.md").read_text()
    linked = re.findall(r"\]\(cron/([\w.]+)\)", guide)
    assert sorted(linked) == sorted(path.name for path in CRON.iterdir())
    unit = guide[guide.index("## systemd") : guide.index("## One output")]
    book = guide[guide.index("## Run book") : guide.index("### 65")]
    rows = [line.split("|") for line in unit.splitlines() if re.match(r"\| \d", line)]
    told = {int(code): row[3].strip() for row in rows for code in re.findall(r"\d+", row[1])}
    assert set(told) == set(ExitCode) - {ExitCode.INTERRUPTED}
    for code in set(told) - {ExitCode.OK}:
        assert told[code].startswith("starts it again" if code in RETRIED else "failed")
    explained = [line.split("|")[1] for line in book.splitlines() if re.match(r"\| \d", line)]
    assert set(ExitCode) <= {int(code) for cell in explained for code in re.findall(r"\d+", cell)}
