"""The page: what it says, and that nothing from outside gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jobs.exit_codes import of_told
from pipeline import report_facts
from pipeline.page import SIGNS, page
from tests.unit.outputs import finished

HOSTILE = "</script><script>alert(1)</script><!--\"'&amp;\n\u202egnp\u2066\x1b[31m"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is told of a small complete output."""
    made = finished(tmp_path_factory.mktemp("made"))
    found = report_facts.facts(made.storage, exit_code=of_told)
    assert found is not None
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


class Elements(HTMLParser):
    """A page's elements with their attributes, and its text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self._within = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts.append(data)
        elif not self._within:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def test_the_page_begins_with_the_verdict_and_its_sign(plain: dict[str, Any]) -> None:
    text = Elements(page(plain)).text
    assert f"{SIGNS['good']} All 20 rows of 3 shards are accounted for" in text
    assert text.index("accounted for") < text.index("Rows in")
    assert len(set(SIGNS.values())) == len(SIGNS), "a sign that colour need not tell apart"


def test_the_page_has_each_of_its_parts(plain: dict[str, Any]) -> None:
    run = {
        **plain["run"], "timeline": [[0, 0, 1e8], [1, 10, 2e8], [2, 20, 2e8]], "host": "box",
        "exit_code": 0, "errors": [{"kind": "E", "message": "it broke", "hint": "mend it"}],
        "invocation": {"command": ["shardscore", "score", "a b"], "variables": {"X": "y z"},
                       "folder": "/here"},
    }  # fmt: skip
    difference = {"of": "prediction", "psi": 1.5, "ks": 0.6, "chance": 0.01, "says": "beyond"}
    drift = {
        "baseline": "/last",
        "max_drift": 0.2,
        "differences": [difference, {**difference, "of": "other", "says": "moved"}],
    }
    text = Elements(page({**plain, "run": run, "drift": drift})).text
    for part in (
        *("Rows that could not be scored", "bad 2", "Predictions", "Against the baseline"),
        *("✗ more than is allowed", "moved", "Over time", "Resident memory", "Shards"),
        *("To repeat it, in /here on box", "X='y z' shardscore score 'a b'", "exit code 0"),
        *("it broke", "to do mend it", "How columns feed the model", "a" * 64),
    ):
        assert part in text, part


def test_without_runs_or_predictions_there_is_a_page_all_the_same(plain: dict[str, Any]) -> None:
    bare = {**plain, "run": None, "runs": [], "predictions": [], "job": {}, "binding": []}
    bare |= {"bad_rows": {"rows": 0, "read": 0, "reasons": [], "others": 0, "columns": []}}
    text = Elements(page(bare)).text
    assert "accounted for" in text
    assert "Predictions" not in text


def test_the_shards_are_data_of_the_page(plain: dict[str, Any]) -> None:
    data = Elements(page(plain)).data
    assert [row[0] for row in data["rows"]] == ["a.parquet", "b.parquet", "d=1/c.parquet"]
    assert [data["states"][row[1]] for row in data["rows"]] == ["published"] * 3
    assert data["rows"][0][2:4] == [10, 3]


def hostile(value: Any) -> Any:
    """The same facts with each text that comes from outside made hostile."""
    if isinstance(value, dict):
        outer = {"versions", "by_method", "created_with", "variables", "read"}
        return {
            name: {key + HOSTILE: hostile(told) for key, told in inner.items()}
            if name in outer and isinstance(inner, dict)
            else inner
            if name == "level"
            else hostile(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_no_text_from_outside_gets_out_of_its_place(plain: dict[str, Any]) -> None:
    facts = {
        **hostile(plain),
        "run": hostile(
            {
                **plain["run"], "inputs": ["x"], "host": "box", "by_method": {"predict": 1},
                "errors": [{"kind": "E", "message": "m", "path": "p", "expected": "e"}],
                "invocation": {"command": ["score"], "variables": {"X": "y"}, "folder": "/"},
            }
        ),
        "drift": hostile({"baseline": "b", "max_drift": None, "differences": []}),
    }  # fmt: skip
    facts["predictions"][0]["parts"].append(
        {"of": "", "total": 1, "bars": [[HOSTILE, 1]], "others": 0, "named": 1, "sampled": False}
    )
    text = page(facts)
    plainly, attacked = Elements(page(plain)), Elements(text)
    kinds = {tag for tag, _ in attacked.found}
    assert kinds - {tag for tag, _ in plainly.found} <= {"pre", "code", "g", "br"}
    assert [tag for tag, _ in attacked.found].count("script") == 2
    assert not [name for _, found in attacked.found for name in found if name.startswith("on")]
    assert "<!--" not in text
    # No mark that turns the text around, hides it or drives a terminal.
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f]", text)
    assert attacked.data["rows"][0][0].startswith("a.parquet</script><script>")


def test_what_is_no_unicode_is_shown_escaped(plain: dict[str, Any]) -> None:
    rows = [["\udcff.parquet", *plain["shard_table"][0][1:]]]
    assert "\\\\udcff.parquet" in page({**plain, "shard_table": rows})
    page({**plain, "output": "/lake/\udcff"}).encode()


def test_the_page_may_run_its_own_script_alone_and_load_nothing(plain: dict[str, Any]) -> None:
    found = Elements(page(plain))
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in found.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    script = base64.b64encode(hashlib.sha256(found.scripts[-1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{script}';" in policy
    assert "unsafe" not in policy
    for tag, attributes in found.found:
        assert "style" not in attributes, "the policy would not let it"
        assert tag not in {"img", "iframe", "object", "base", "form"}
        for name in ("src", "href", "action"):
            assert attributes.get(name, "data:").startswith("data:")  # type: ignore[union-attr]


def test_a_page_of_ten_thousand_shards_stays_below_a_megabyte(plain: dict[str, Any]) -> None:
    _name, state, *told = plain["shard_table"][0]
    rows = [[f"year=2026/month=01/part-{n:05}.parquet", state, *told] for n in range(10_000)]
    assert len(page(plain).encode()) < 100_000
    assert len(page({**plain, "shard_table": rows}).encode()) < 1_000_000


def test_the_files_of_the_page_are_package_data() -> None:
    import tomllib

    root = Path(__file__).parents[2]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = {path.name for path in (root / "pipeline" / "page").iterdir() if path.is_file()}
    assert files - {"__init__.py"} == set(told["package-data"]["pipeline.page"])
    assert "pipeline.page" in told["packages"]
