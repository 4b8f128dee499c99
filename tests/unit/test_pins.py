"""The two locks: the image holds what the tests ran with, and nothing that only they need."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.conftest import ROOT

LOCKS = ("requirements.lock", "requirements.runtime.lock")


def pins_of(lock: str) -> dict[str, frozenset[str]]:
    """What a lock says of each package: its version, and its hashes."""
    found: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in (ROOT / lock).read_text().splitlines():
        if pin := re.match(r"([a-z0-9.-]+)==(\S+)", line):
            current = found.setdefault(pin[1], set())
            current.add(pin[2])
        elif digest := re.search(r"--hash=(\S+)", line):
            current.add(digest[1])
    return {name: frozenset(said) for name, said in found.items()}


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in requirements}


def test_what_the_image_holds_is_pinned_as_for_the_tests() -> None:
    everything, runtime = map(pins_of, LOCKS)
    assert runtime.items() <= everything.items(), "make lock renews both"
    assert len(runtime) > 20


def test_it_holds_all_that_the_project_needs_and_nothing_that_only_its_tests_do() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = named(project["dependencies"])
    everything, runtime = map(pins_of, LOCKS)
    assert needed <= set(runtime)
    # setuptools is TensorFlow's too.
    tests = named(project["optional-dependencies"]["dev"]) - needed - {"setuptools"}
    assert tests <= set(everything)
    assert not tests & set(runtime)


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_has_hashes_and_no_lock_says_where_from(lock: str) -> None:
    assert all(len(said) > 1 for said in pins_of(lock).values())
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
