"""Makes the README's picture, of the output of `make score`: python -m tests.browser.picture OUT"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from jobs.exit_codes import of_told
from pipeline import report_facts
from pipeline.page import page
from pipeline.storage import storage_at
from tests.browser.chromium import LAPTOP, chromium

HEIGHT = 1290
"""CSS pixels: the page down to how the run went over time."""

PICTURE = Path(__file__).with_name("report.png")


def main(output: str) -> None:
    facts = report_facts.facts(storage_at(output), exit_code=of_told)
    if facts is None:
        sys.exit(f"there is no output in {output}: make score")
    facts["output"] = output  # wherever the project is checked out
    with tempfile.NamedTemporaryFile("w", suffix=".html") as file, chromium() as driver:
        file.write(page(facts))
        file.flush()
        size = {"width": LAPTOP, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(Path(file.name).as_uri())
        clip = {"x": 0, "y": 0, "width": LAPTOP, "height": HEIGHT, "scale": 0.75}
        taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    PICTURE.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
