"""TensorFlow's import in the background: what is said meanwhile, and by whom."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import environment

AHEAD = """
import gc, sys, threading
from pipeline import runtime
runtime.begin_import()
runtime.begin_import()
print("said meanwhile", file=sys.stderr, flush=True)
threads = [thread.name for thread in threading.enumerate()]
assert threads.count("import tensorflow") == 1, threads
tf = runtime.tensorflow()
assert tf is sys.modules["tensorflow"] and tf.constant(1) is not None
assert gc.isenabled()
import ctypes
ctypes.CDLL(None).perror(b"said by C")
"""

WALKED = """
import gc, sys
from pipeline import memory, runtime
if sys.argv[1:]:
    memory.keep_imports()
gc.collect()
before = len(gc.get_objects())
runtime.begin_import()
runtime.tensorflow()
print(len(gc.get_objects()) - before)
"""

REFUSED = """
import os
os.environ["KERAS_BACKEND"] = "torch"
from pipeline import runtime
from pipeline.errors import ConfigError
runtime.begin_import()
try:
    runtime.tensorflow()
except ConfigError as error:
    print(error.received)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )


@pytest.mark.slow
def test_what_this_program_says_while_tensorflow_is_imported_is_all_that_is_heard() -> None:
    first, second = run(AHEAD).stderr.splitlines()
    assert first == "said meanwhile"
    assert second.startswith("said by C")


@pytest.mark.slow
def test_a_process_of_our_own_never_looks_through_tensorflow_for_garbage() -> None:
    ours, theirs = int(run(WALKED, "ours").stdout), int(run(WALKED).stdout)
    assert ours < 0 < 100_000 < theirs


def test_an_import_that_fails_ahead_of_its_use_is_told_where_it_is_used() -> None:
    done = run(REFUSED)
    assert (done.stdout, done.stderr) == ("KERAS_BACKEND=torch\n", "")
