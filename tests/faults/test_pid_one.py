"""As the first process of a PID namespace a run ends as it does anywhere.

With the same codes, after saving, to the same bytes, though the kernel treats it otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pexpect
import pytest

from pipeline.storage import LocalStorage
from tests.conftest import ROOT, environment
from tests.faults.lake import (
    GROUP_ROWS,
    Lake,
    assert_finished,
    assert_whole,
    begin,
    contents,
    ended,
    make_lake,
    scored_rows,
    wait_for,
)

pytestmark = pytest.mark.faults

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
SIGNALS = pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
ARITHMETIC = """
    import runpy
    from jobs.pid_one import stand_in
    stand_in()
    runpy.run_module("tests.faults.arithmetic", run_name="__main__", alter_sys=True)
"""
"""The command as `jobs` begins it, with arithmetic in the place of TensorFlow."""


def begin_first(
    *arguments: str, program: str | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Starts the command, or a program in its place, as process 1 of a namespace."""
    begun = ["-m", "jobs"] if program is None else ["-c", textwrap.dedent(program)]
    return subprocess.Popen(
        [*NAMESPACE, sys.executable, *begun, *arguments],
        cwd=ROOT,
        env=environment(GROUP_ROWS=str(GROUP_ROWS), **variables),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_of(run: subprocess.Popen[str]) -> int:
    """The number that process 1 has out here."""
    wait_for(lambda: bool(children(run.pid)), run)
    (pid,) = children(run.pid)
    return pid


def line_of(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Shards that no clock saves, enough of them for two workers."""
    folder = tmp_path_factory.mktemp("lake")
    return make_lake(folder, {f"big-{i}": (203, (3, 90)) for i in range(3)}, every=3600.0)


@pytest.fixture(scope="module")
def reference(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("whole") / "out"
    done = ended(begin(lake.arguments(output)))
    assert done.code == 0, done.err
    return contents(LocalStorage(output))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["score", "--no-such-option"], 64), (["status", "no/such/output"], 66)],
)
def test_a_command_ends_with_the_code_that_it_has_elsewhere(
    arguments: list[str], code: int
) -> None:
    done = ended(begin_first(*arguments))
    assert done.code == code, done.err
    assert "Usage" in done.out or "error" in done.err.lower()


@pytest.mark.parametrize("workers", ["1", "2"])
@SIGNALS
def test_a_signal_saves_what_is_scored_and_the_next_run_ends_in_the_same_bytes(
    signum: int, code: int, workers: str, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    arguments = lake.arguments(output, "--workers", workers)
    run = begin_first(*arguments, program=ARITHMETIC, PAUSE="0.1", SCORED=str(told))
    wait_for(lambda: any(len(scored_rows(told, f"big-{i}.parquet")) >= 4 for i in range(3)), run)
    os.kill(first_of(run), signum)
    done = ended(run)
    assert done.code == code, done.err
    assert "stopped before all shards were scored" in done.err
    assert list((output / "_shardscore/checkpoints").rglob("*.parquet"))
    assert_whole(output, reference)
    again = ended(begin_first(*arguments, program=ARITHMETIC))
    assert again.code == 0, again.err
    assert_finished(output, reference)


@SIGNALS
def test_a_second_signal_ends_the_run_at_once(
    signum: int, code: int, lake: Lake, reference: dict[str, bytes], tmp_path: Path
) -> None:
    output, told = tmp_path / "out", tmp_path / "told"
    run = begin_first(*lake.arguments(output), program=ARITHMETIC, PAUSE="60", SCORED=str(told))
    first = first_of(run)
    wait_for(lambda: (output / "_shardscore/run.json").exists(), run)
    (child,) = children(first)
    wait_for(lambda: caught(child, signum), run)
    os.kill(first, signum)
    wait_for(lambda: not caught(child, signum), run)
    os.kill(first, signum)
    # The batch takes a minute, and process 1 ends long before that; it cannot die of a signal.
    assert ended(run, seconds=30).code == 128 + signum
    assert_whole(output, reference)


def caught(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (signum - 1) & 1)


def test_a_signal_that_nothing_handles_yet_ends_the_child_and_with_it_the_first() -> None:
    run = begin_first(
        program="""
            import time
            from jobs.pid_one import stand_in
            stand_in()
            print("begun", flush=True)
            time.sleep(60)
        """
    )
    assert line_of(run) == "begun"
    os.kill(first_of(run), signal.SIGTERM)
    assert ended(run, seconds=30).code == 128 + signal.SIGTERM


def test_without_it_the_kernel_would_not_deliver_that_signal() -> None:
    run = begin_first(
        program="""
            import sys
            print("begun", flush=True)
            sys.exit(int(sys.stdin.readline()))
        """
    )
    assert line_of(run) == "begun"
    os.kill(first_of(run), signal.SIGTERM)
    run.communicate("3\n", timeout=30)
    assert run.returncode == 3


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_other_signals_reach_the_child(signum: signal.Signals) -> None:
    run = begin_first(
        str(int(signum)),
        program="""
            import signal, sys, time
            from jobs.pid_one import stand_in
            stand_in()
            signal.signal(int(sys.argv[1]), lambda number, _frame: sys.exit(number))
            print("begun", flush=True)
            time.sleep(60)
        """,
    )
    assert line_of(run) == "begun"
    os.kill(first_of(run), signum)
    assert ended(run, seconds=30).code == signum


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(7)", 7), ("os.abort()", 128 + 6)])
def test_orphans_are_waited_for_and_the_childs_end_is_the_firsts(ending: str, code: int) -> None:
    """A hundred processes lose their parent and end; none is left as a zombie."""
    run = begin_first(
        program=f"""
            import os, pathlib, subprocess, sys, time
            from jobs.pid_one import stand_in
            stand_in()
            subprocess.run(["sh", "-c", "for i in $(seq 100); do sleep 0.2 & done"], check=True)
            def alive():
                return [p for p in pathlib.Path("/proc").iterdir() if p.name.isdecimal()]
            seen = most = len(alive())
            deadline = time.monotonic() + 30
            while seen > 2 and time.monotonic() < deadline:
                time.sleep(0.01)
                seen = len(alive())
                most = max(seen, most)
            print(most, seen, flush=True)
            {ending}
        """
    )
    most, left = map(int, line_of(run).split())
    assert ended(run).code == code
    assert most > 50, "they were not seen: nothing is proved"
    assert left == 2, "zombies are left"


def test_what_still_runs_when_the_child_ends_is_ended_by_the_kernel(tmp_path: Path) -> None:
    run = begin_first(
        program="""
            import subprocess
            from jobs.pid_one import stand_in
            stand_in()
            print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
            input()
        """
    )
    assert line_of(run)
    (child,) = children(first_of(run))
    (sleeper,) = children(child)
    os.kill(child, signal.SIGKILL)
    assert ended(run, seconds=30).code == 128 + signal.SIGKILL
    assert not Path(f"/proc/{sleeper}").exists()


def test_ctrl_c_in_a_terminal_arrives_once() -> None:
    """The terminal sends it to both; if the first handed it on, the run would not save."""
    program = """
        import os, signal, time
        from jobs.pid_one import stand_in
        stand_in()
        taken = []
        def take(number, _frame):
            taken.append(number)
            os.write(1, f"took {number}.".encode())
        signal.signal(signal.SIGINT, take)
        signal.signal(signal.SIGUSR1, take)
        print("begun", flush=True)
        while signal.SIGUSR1 not in taken:
            time.sleep(0.01)
        print("taken", taken.count(signal.SIGINT), flush=True)
    """
    terminal = pexpect.spawn(
        NAMESPACE[0],
        [*NAMESPACE[1:], sys.executable, "-c", textwrap.dedent(program)],
        cwd=str(ROOT),
        env=environment(),
        encoding="utf-8",
        timeout=30,
    )
    terminal.expect("begun")
    (first,) = children(terminal.pid)
    terminal.sendintr()
    terminal.expect_exact(f"took {int(signal.SIGINT)}.")
    # Handed on in the order of their numbers: behind this one no interrupt can follow.
    os.kill(first, signal.SIGUSR1)
    terminal.expect(r"taken (\d+)")
    assert terminal.match.group(1) == "1"
    terminal.expect(pexpect.EOF)
