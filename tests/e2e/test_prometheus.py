"""Prometheus' own tools: they accept what is told, the alerts fire, a real Pushgateway keeps it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.e2e.lake import truncate
from tests.faults.lake import Lake, begin, ended, make_lake
from tests.services import PushgatewayServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Finished

pytestmark = pytest.mark.long

MONITORING = ROOT / "jobs" / "metrics"
ALERTS = ROOT / "tests" / "e2e" / "alerts"


def promtool(*arguments: object, given: str = "") -> str:
    """What promtool says; it must be content, also with the style of names."""
    assert shutil.which("promtool"), "install Debian's package prometheus, as .ci/run does"
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path, {"big": (50, ()), "small": (8, (2, 5))})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushgatewayServer]:
    server = PushgatewayServer(tmp_path_factory.mktemp("pushgateway"))
    server.start()
    yield server
    server.kill()


def score(lake: Lake, output: Path, *more: object) -> Finished:
    arguments = lake.arguments(output, "--workers", 1, *more)
    return ended(begin(arguments, NO_PROXY="127.0.0.1"))


def damage(lake: Lake) -> None:
    spare = make_lake(lake.folder / "spare", {"new": (9, ())}).shards / "new.parquet"
    truncate(spare)
    spare.rename(lake.shards / "new.parquet")


def test_promtool_finds_nothing_wrong_with_what_is_told(lake: Lake, tmp_path: Path) -> None:
    prom = tmp_path / "shardscore.prom"
    options = ("--metrics-file", prom, "--metrics-name", "nightly")
    assert score(lake, tmp_path / "out", *options).code == 0
    assert promtool("check", "metrics", given=prom.read_text()) == ""
    damage(lake)
    assert score(lake, tmp_path / "out", *options).code == 65
    assert promtool("check", "metrics", given=prom.read_text()) == ""


def test_promtool_would_find_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="counter"):
        promtool("check", "metrics", given="# HELP a_rows A.\n# TYPE a_rows counter\na_rows 1\n")


def test_promtool_accepts_the_alerts() -> None:
    assert "6 rules found" in promtool("check", "rules", MONITORING / "alerts.yml")


@pytest.mark.parametrize("path", sorted(ALERTS.iterdir()), ids=lambda path: path.stem)
def test_an_alert_fires_when_it_should_and_is_silent_otherwise(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def test_each_alert_has_such_a_test() -> None:
    tests = "".join(path.read_text() for path in ALERTS.iterdir())
    for line in (MONITORING / "alerts.yml").read_text().splitlines():
        if "- alert:" in line:
            assert f"alertname: {line.split()[-1]}" in tests


def test_promtool_accepts_what_the_dashboard_asks(tmp_path: Path) -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [{"record": f"asked:{i}", "expr": expr} for i, expr in enumerate(asked)]
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", path)


def test_a_pushgateway_shows_the_run_and_keeps_the_last_success(
    server: PushgatewayServer, lake: Lake, tmp_path: Path
) -> None:
    options = ("--pushgateway", server.address, "--metrics-name", "nightly")
    done = score(lake, tmp_path / "out", *options)
    assert (done.code, "could not be told" in done.err) == (0, False)
    first = server.group(name="nightly")
    assert first["shardscore_exit_code"] == [({}, "0")]
    rows = {own["state"]: value for own, value in first["shardscore_rows_total"]}
    assert rows == {"scored": "56", "null": "0", "quarantined": "2"}
    damage(lake)
    assert score(lake, tmp_path / "out", *options).code == 65
    second = server.group(name="nightly")
    success = "shardscore_last_success_timestamp_seconds"
    assert second["shardscore_exit_code"] == [({}, "65")]
    assert second[success] == first[success]
    assert second["shardscore_run_end_timestamp_seconds"] != first[success]
    assert promtool("check", "metrics", given=server.exposed("shardscore_")) == ""


def test_a_pushgateway_keeps_shares_apart(
    server: PushgatewayServer, lake: Lake, tmp_path: Path
) -> None:
    for index in (0, 1):
        share = ("--shard-index", index, "--shard-count", 2)
        assert score(lake, tmp_path / "out", "--pushgateway", server.address, *share).code == 0
    for index in ("0", "1"):
        group = server.group(shard_index=index)
        published = {own["state"]: value for own, value in group["shardscore_shards"]}["published"]
        assert published == "1"
    assert 'job="shardscore",shard_index="1"' in server.exposed("shardscore_")
