"""The report as a person has it before them: opened, searched, sorted, printed, on a phone."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import LAPTOP, PHONE

if TYPE_CHECKING:
    from tests.browser.conftest import Browser

pytestmark = pytest.mark.browser

NAMES = "#table tbody td:first-child bdi"
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\u202e"


def heading(place: int) -> str:
    return f"#table thead th:nth-child({place})"


def column(browser: Browser, place: int) -> list[str]:
    return browser.texts(f"#table tbody td:nth-child({place})")


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(",", "")) for text in texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_it_opens_without_a_complaint_and_nothing_sticks_out(
    browser: Browser, small: dict[str, Any], width: int, theme: str
) -> None:
    browser.show(small, width=width, theme=theme)
    assert browser.element("h1").text.startswith("✓\nAll 20 rows of 3 shards")
    assert browser.texts(NAMES) == ["a.parquet", "b.parquet", "d=1/c.parquet"]
    assert browser.script("return document.documentElement.scrollWidth") == width
    assert browser.complaints() == []


def luminance(colour: str) -> float:
    """As WCAG 2 has it, of a colour like rgb(1, 2, 3)."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_theme_can_be_read(browser: Browser, small: dict[str, Any], theme: str) -> None:
    browser.show(small, theme=theme)
    page, *texts = browser.script(
        "const style = (s) => getComputedStyle(document.querySelector(s));"
        "return [style('body').backgroundColor, ...['h1', '.made', 'h1 .sign', 'th button', 'dd']"
        ".map((s) => style(s).color), style('.tick').fill];"
    )
    assert (luminance(page) > 0.5) == (theme == "light")
    for text in texts:
        light, dark = sorted((luminance(page), luminance(text)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "the contrast that WCAG asks for"


def test_it_asks_for_nothing_but_itself(browser: Browser, small: dict[str, Any]) -> None:
    browser.show(small)
    asked = [url for url in browser.requests() if not url.startswith("data:")]
    assert [url.rpartition("/")[2] for url in asked] == ["report.html"]


def test_it_could_not_ask_for_anything(browser: Browser, small: dict[str, Any]) -> None:
    browser.show(small)
    outcome = browser.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch('https://example.org/').then(() => done('fetched'), () => done('refused'))"
    )
    assert outcome == "refused"
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_hostile_names_are_shown_and_do_nothing(browser: Browser, small: dict[str, Any]) -> None:
    told = small["shard_table"][0]
    reason = {"column": HOSTILE, "reason": HOSTILE, "rows": 3}
    facts = {
        **small,
        "output": HOSTILE,
        "shard_table": [[HOSTILE, *told[1:-1], HOSTILE]],
        "bad_rows": {**small["bad_rows"], "reasons": [reason]},
    }
    browser.show(facts, width=PHONE)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert browser.texts(NAMES) == [shown]
    assert shown in browser.driver.title
    assert browser.script("return document.images.length") == 0
    assert browser.script("return document.documentElement.scrollWidth") == PHONE
    assert browser.complaints() == []


def test_shards_are_searched_by_words(browser: Browser, large: dict[str, Any]) -> None:
    browser.show(large)
    assert browser.element("#shown").text == "1–100 of 10,000"  # noqa: RUF001
    browser.element("#search").send_keys("day=007 PART-3")
    expected = [n for n in range(10_000) if n % 365 == 7 and str(n).startswith("3")]
    assert browser.texts(NAMES) == [f"day=007/part-{n}.parquet" for n in expected]
    assert browser.element("#shown").text.endswith(f"{len(expected)} found, of 10,000")
    browser.element("#search").send_keys(" nowhere")
    assert browser.element("#shown").text == "none of 10,000"
    browser.element("#search").clear()
    browser.element("#search").send_keys("failed")
    assert len(browser.texts(NAMES)) == 10
    assert set(browser.texts("#table tbody small")) == {"truncated"}


@pytest.mark.parametrize(("place", "told"), [(3, 2), (4, 4), (6, 6)])
def test_shards_are_sorted_by_their_numbers_the_largest_first(
    browser: Browser, large: dict[str, Any], place: int, told: int
) -> None:
    browser.show(large)
    browser.element(f"{heading(place)} button").click()
    assert browser.element(heading(place)).get_attribute("aria-sort") == "descending"
    assert browser.element(heading(1)).get_attribute("aria-sort") is None
    found = numbers(column(browser, place))
    assert found == sorted(found, reverse=True)
    known = [row[told] for row in large["shard_table"] if row[told] is not None]
    assert found[0] == pytest.approx(max(known), abs=0.01)
    browser.element(f"{heading(place)} button").click()
    assert browser.element(heading(place)).get_attribute("aria-sort") == "ascending"
    found = numbers(column(browser, place))
    assert found == sorted(found)
    assert found[0] == pytest.approx(min(known), abs=0.01)


def test_what_nothing_tells_comes_last_whichever_way(
    browser: Browser, large: dict[str, Any]
) -> None:
    browser.show(large)
    for _ in range(2):
        browser.element(f"{heading(6)} button").click()
        assert "–" not in column(browser, 6)  # noqa: RUF001
        browser.element("#search").send_keys("failed")
        assert set(column(browser, 6)) == {"–"}  # noqa: RUF001
        browser.element("#search").clear()
        browser.element("#search").send_keys(" ")


def test_names_are_sorted_as_people_count(browser: Browser, large: dict[str, Any]) -> None:
    browser.show(large)
    assert browser.texts(NAMES)[:3] == [f"day=000/part-{n}.parquet" for n in (0, 365, 730)]


def test_ten_thousand_shards_are_a_hundred_pages(browser: Browser, large: dict[str, Any]) -> None:
    browser.show(large)
    assert len(browser.texts(NAMES)) == 100
    assert not browser.element("#previous").is_enabled()
    browser.element("#next").click()
    assert browser.element("#place").text == "page 2 of 100"
    assert browser.element("#shown").text == "101–200 of 10,000"  # noqa: RUF001
    browser.element("#search").send_keys("failed")
    assert not browser.element("#pages").is_displayed()


def test_the_list_can_be_used_by_the_keyboard_alone(
    browser: Browser, large: dict[str, Any]
) -> None:
    browser.show(large)
    browser.element("#search").send_keys("day=00", Keys.TAB, Keys.TAB)
    assert browser.script("return document.activeElement.textContent") == "Shard"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.element(heading(1)).get_attribute("aria-sort") == "descending"
    assert browser.texts(NAMES)[0].startswith("day=009/")


def test_two_hundred_shards_are_printed_and_the_others_counted(
    browser: Browser, large: dict[str, Any]
) -> None:
    browser.show(large)
    browser.script("window.dispatchEvent(new Event('beforeprint'))")
    assert len(browser.texts(NAMES)) == 200
    assert browser.texts("#unprinted") == ["9,800 more shards are not printed."]
    browser.script("window.dispatchEvent(new Event('afterprint'))")
    assert len(browser.texts(NAMES)) == 100


def test_what_is_folded_away_is_printed(browser: Browser, small: dict[str, Any]) -> None:
    (column,) = small["predictions"]
    browser.show({**small, "predictions": [{**column, "parts": column["parts"] * 5}]})
    assert len(browser.texts("details figure")) == 2
    assert not browser.element("details figure").is_displayed()
    browser.script("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.element("details figure").is_displayed()
    browser.script("window.dispatchEvent(new Event('afterprint'))")
    assert not browser.element("details figure").is_displayed()


def test_it_prints_without_what_only_a_screen_has_use_for(
    browser: Browser, small: dict[str, Any]
) -> None:
    browser.show(small)
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.element("#search").is_displayed()
    assert browser.element("#table").is_displayed()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_an_output_of_no_shards_has_an_empty_list(browser: Browser, small: dict[str, Any]) -> None:
    browser.show({**small, "shard_table": []})
    assert browser.element("#shown").text == "none of 0"
    assert browser.complaints() == []
