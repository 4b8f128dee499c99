"""Debian's Chromium, headless, driven by Selenium."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

LAPTOP, PHONE = 1280, 360
"""Widths, in CSS pixels."""


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser that keeps what its console says and what it asks for. It is no option to have
    none: where it is missing, the tests fail."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for name in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()
