"""A window of a real browser, and what pages are made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.by import By

from jobs.exit_codes import of_told
from pipeline import report_facts
from pipeline.page import page
from tests.browser.chromium import LAPTOP, chromium
from tests.unit.outputs import finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement


@dataclass(frozen=True)
class Browser:
    """A window on one page at a time."""

    driver: webdriver.Chrome
    folder: Path

    def show(self, facts: Mapping[str, Any], *, width: int = LAPTOP, theme: str = "light") -> None:
        """Opens the page of some facts, from a file."""
        self.look(width=width, theme=theme)
        path = self.folder / "report.html"
        path.write_text(page(facts))
        self.driver.get_log("performance")  # what was asked for before is another page's
        self.driver.get(path.as_uri())

    def look(self, *, width: int, theme: str) -> None:
        """Makes the window as wide as a device, and the theme what its owner prefers."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < LAPTOP},
        )
        preferred = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)

    def element(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, at once: asking for each would take a while."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return list(self.script(f"return {found}.map((e) => e.textContent)"))

    def complaints(self) -> list[str]:
        """What the console says since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        told = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        sent = (t for t in told if t["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium() as driver:
        yield Browser(driver, tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is told of three shards."""
    made = finished(tmp_path_factory.mktemp("made"))
    found = report_facts.facts(made.storage, exit_code=of_told)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def large(small: dict[str, Any]) -> dict[str, Any]:
    """What would be told of ten thousand shards, one in a thousand of which failed."""
    rows = [
        [
            f"day={number % 365:03}/part-{number}.parquet",
            "failed" if number % 1000 == 7 else "published",
            (number * 7919) % 10_007,
            None if number % 1000 == 7 else 10,
            None if number % 1000 == 7 else number % 13,
            "predict",
            None if number % 1000 == 7 else number / 1000,
            "truncated" if number % 1000 == 7 else "",
        ]
        for number in range(10_000)
    ]
    return {**small, "shard_table": rows}
